"""Keeps one engine process alive: starts it, waits for it, restarts it when it dies or hangs.

The Unix socket lies in a private directory (0700) and only the very process that was started
here, of this very user, is let in. Not here: what the frames mean to requests (engine_client.py).
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from sixfold.core.config import EngineConfig
from sixfold.core.errors import EngineDeadError, SixfoldError
from sixfold.serving.server import ipc
from sixfold.serving.server.config import ServerConfig
from sixfold.serving.server.engine_client import EngineClient

FIRST_BACKOFF = 0.05
LAST_BACKOFF = 10.0
MAX_FAILED_STARTS = 5
"""Starts in a row that never became ready, after which the server gives up."""

STEP_ASIDE = 5
"""By so much the API's thread is nicer than the engine's. Its work comes in bursts, a token for
each stream; one that takes a core from an engine's thread keeps all the others waiting for that
thread's piece of a step, while a moment later a core is free."""


class Supervisor:
    """Owns the engine process. `start` may be called before there is an event loop."""

    def __init__(
        self, engine_config: EngineConfig, config: ServerConfig, engine: str, client: EngineClient
    ) -> None:
        self.failure: SixfoldError | None = None
        """Why the supervisor gave up, once it has."""
        self.first_ready = asyncio.Event()
        """Set when an engine is ready for the first time, or `failure` is."""
        self._engine_config = engine_config
        self._config = config
        self._engine = engine
        self._client = client
        self._process: subprocess.Popen[bytes] | None = None
        # A process inherits the niceness of the thread that starts it, and ends with that thread.
        self._starter = ThreadPoolExecutor(1, "engine-starter")
        self._directory = Path(tempfile.mkdtemp(prefix="sixfold-"))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._directory / "engine"))
        self._listener.listen(4)
        self._listener.setblocking(False)

    @property
    def engine_pid(self) -> int | None:
        """The engine's process id, while there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start an engine process; `run` then waits for it to connect."""
        command = [sys.executable, "-m", "sixfold.serving.server.engine_main"]
        command += ["--socket", str(self._directory / "engine"), "--engine", self._engine]
        self._process = self._starter.submit(
            subprocess.Popen, command, stdin=subprocess.PIPE, stdout=2, close_fds=True
        ).result()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(msgspec.json.encode(self._engine_config))

    async def run(self) -> None:
        """Serve engine processes one after another, until cancelled or `failure` is set."""
        _step_aside()
        failed_starts = 0
        backoff = FIRST_BACKOFF
        while True:
            began = time.monotonic()
            was_ready = False
            try:
                was_ready = await self._serve_process()
            except SixfoldError as error:
                if not self.first_ready.is_set():
                    self._give_up(error)
                    return
                print(f"sixfold: the engine can't start: {error.message}", file=sys.stderr)
            self._kill()
            failed_starts = 0 if was_ready else failed_starts + 1
            if failed_starts >= MAX_FAILED_STARTS:
                self._give_up(EngineDeadError("the engine died at every start", "see its messages"))
                return
            healthy = was_ready and time.monotonic() - began > LAST_BACKOFF
            backoff = FIRST_BACKOFF if healthy else min(backoff * 2, LAST_BACKOFF)
            print(f"sixfold: the engine died; restart in {backoff:.1f} s", file=sys.stderr)
            await asyncio.sleep(backoff)
            self._client.num_restarts += 1
            self.start()

    def close(self) -> None:
        """End the engine process and remove the socket."""
        self._kill()
        self._starter.shutdown()
        self._listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _give_up(self, error: SixfoldError) -> None:
        self.failure = error
        self.first_ready.set()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def _serve_process(self) -> bool:
        """Talk to the process that was started, until it is gone. True if it was ever ready.

        Raises SixfoldError where the engine says why it can't start.
        """
        was_ready = False
        dead = asyncio.create_task(self._wait_dead())
        serve = asyncio.create_task(self._serve_connection())
        try:
            while True:
                await asyncio.wait({dead, serve}, return_when=asyncio.FIRST_COMPLETED)
                # A dead engine's last words (why it failed) may still be in the socket.
                await asyncio.wait({serve}, timeout=0.5)
                if not serve.done():
                    return was_ready
                was_ready = serve.result() or was_ready
                # Its connection's end mostly means its own; but one whose framing broke is back.
                await asyncio.wait({dead}, timeout=0.2)
                if dead.done():
                    return was_ready
                serve = asyncio.create_task(self._serve_connection())
        finally:
            dead.cancel()
            serve.cancel()
            await asyncio.gather(dead, serve, return_exceptions=True)

    async def _wait_dead(self) -> None:
        """Return when the process has ended."""
        assert self._process is not None
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(self._process.pid)
        try:
            loop.add_reader(descriptor, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _serve_connection(self) -> bool:
        """One connection of the engine, from its first frame to its end. True if it was ready."""
        writer: asyncio.StreamWriter | None = None
        watchdog: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self._config.engine_start_timeout):
                reader, writer = await self._accept()
                event = await read_event(reader)
            if isinstance(event, ipc.Failed):
                raise SixfoldError(event.message, event.hint)
            if not isinstance(event, ipc.Ready):
                raise ipc.FrameError("the engine's first frame is not its hello")
            self._client.attach(writer, event)
            self.first_ready.set()
            watchdog = asyncio.create_task(self._watch())
            while True:
                event = await read_event(reader)
                if isinstance(event, ipc.Deltas | ipc.Rejected | ipc.Reply):
                    self._client.handle(event)
        except EOFError:
            return watchdog is not None
        except (OSError, ipc.FrameError, msgspec.MsgspecError, ValueError) as error:
            # TimeoutError is an OSError: an engine that never says hello.
            print(f"sixfold: the engine is killed: {error!r}", file=sys.stderr)
            if self._process is not None:
                self._process.kill()
            return watchdog is not None
        finally:
            if watchdog is not None:
                watchdog.cancel()
            self._client.detach()
            if writer is not None:
                writer.close()

    async def _accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            if ipc.check_peer(sock, self.engine_pid):
                return await asyncio.open_connection(sock=sock, limit=1 << 20)
            sock.close()

    async def _watch(self) -> None:
        """Kill an engine that has not answered for engine_hang_timeout seconds."""
        limit = self._config.engine_hang_timeout
        while True:
            await asyncio.sleep(limit / 4)
            silence = time.monotonic() - self._client.last_heard
            if silence > limit and self._process is not None:
                print(f"sixfold: the engine hung for {silence:.1f} s", file=sys.stderr)
                self._process.kill()
                return
            if silence > limit / 2:
                with contextlib.suppress(TimeoutError, EngineDeadError):
                    async with asyncio.timeout(limit / 4):
                        await self._client.ping()


async def read_event(reader: asyncio.StreamReader) -> ipc.Event:
    """The next event. Raises EOFError, OSError, FrameError, MsgspecError."""
    header = await reader.readexactly(4)
    return ipc.decode_event(await reader.readexactly(ipc.frame_length(header)))


def _step_aside() -> None:
    """Make this thread nicer, where threads have a niceness of their own (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    thread = threading.get_native_id()
    nice = min(19, os.getpriority(os.PRIO_PROCESS, thread) + STEP_ASIDE)
    os.setpriority(os.PRIO_PROCESS, thread, nice)
