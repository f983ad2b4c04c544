"""The engine's own process: `python -m sixfold.serving.server.engine_main --socket PATH`.

Reads the EngineConfig as JSON on stdin, connects to the API process's Unix socket, builds the
engine and then loops: drain commands, one step, send what it gave. Idle, it blocks in the
socket. A bad request ends that request, a bad frame is counted and dropped, a failing step ends
the requests in flight; the process itself ends with its parent (EOF, PR_SET_PDEATHSIG).

Not here: scheduling, restarting (supervisor.py), HTTP. `--engine module:Class` replaces the
engine and exists for tests only: it is read from this process's own command line, never from
a frame.
"""

import argparse
import ctypes
import importlib
import math
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import Protocol

import msgspec

from sixfold.core.config import EngineConfig
from sixfold.core.errors import RequestError, SixfoldError
from sixfold.core.metrics import EngineStats
from sixfold.core.request import EngineRequest, RequestDelta
from sixfold.serving.server import ipc
from sixfold.serving.server.launch import DEFAULT_ENGINE

FRAME_SECONDS = 10.0
"""A frame that has begun must be complete by then, or the connection is started anew."""

MAX_STEP_FAULTS = 3
"""Failing steps in a row after which the engine's state isn't trusted any more."""

EXIT_FAULTY = 70
_PR_SET_PDEATHSIG = 1


class Engine(Protocol):
    """The part of LLMEngine that this process drives."""

    max_model_len: int

    def add_request(self, request: EngineRequest) -> None:
        """Take a request; raises RequestError."""
        ...

    def abort(self, request_id: str) -> None:
        """Forget a request."""
        ...

    def step(self) -> list[RequestDelta]:
        """Run one step."""
        ...

    def has_unfinished(self) -> bool:
        """True while there is something to step for."""
        ...

    def reset_prefix_cache(self) -> bool:
        """Drop cached prefixes."""
        ...

    def stats(self) -> EngineStats:
        """Counters and gauges."""
        ...

    def close(self) -> None:
        """The process ends."""
        ...


class Disconnected(Exception):
    """The API process closed the connection: this process has no more to do."""


class Connection:
    """The engine's end of the socket. Reads whole frames, and connects anew when framing broke."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock = self._connect()
        self._buffer = ipc.FrameBuffer()
        self._frame_began: float | None = None

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self._path)
        if not ipc.check_peer(sock):
            raise Disconnected("the socket belongs to another user")
        return sock

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def reconnect(self) -> None:
        """Drop a connection whose framing broke. Raises Disconnected where nobody listens."""
        self.close()
        try:
            self._sock = self._connect()
        except OSError as error:
            raise Disconnected(str(error)) from error
        self._buffer = ipc.FrameBuffer()
        self._frame_began = None

    def send(self, event: ipc.Event) -> None:
        """Send one event. Raises Disconnected, FrameError."""
        try:
            self._sock.sendall(ipc.encode_frame(event))
        except OSError as error:
            raise Disconnected(str(error)) from error

    def receive(self, block: bool) -> list[bytes]:
        """Bodies of the frames that are there; with `block` waits for something to come.

        Raises Disconnected at the end of the stream, FrameError when framing broke.
        """
        timeout: float | None = 0.0
        if block:
            timeout = None if self._frame_began is None else FRAME_SECONDS
        readable, _, _ = select.select([self._sock], [], [], timeout)
        if readable:
            try:
                data = self._sock.recv(1 << 18)
            except OSError as error:
                raise Disconnected(str(error)) from error
            if not data:
                raise Disconnected("end of stream")
            bodies = self._buffer.feed(data)
            if bodies or self._frame_began is None:
                self._frame_began = time.monotonic() if self._buffer.partial else None
            return bodies
        if self._frame_began is not None and time.monotonic() - self._frame_began > FRAME_SECONDS:
            raise ipc.FrameError("a frame was never completed")
        return []


class EngineLoop:
    """Commands in, steps, deltas out; knows which requests are in flight, for when a step fails."""

    def __init__(self, engine: Engine, connection: Connection, ready: ipc.Ready) -> None:
        self._engine = engine
        self._connection = connection
        self._ready = ready
        self._live: set[str] = set()
        self._bad_frames = 0
        self._step_faults = 0

    def run(self) -> None:
        """Loop until the API process is gone (Disconnected)."""
        self._connection.send(self._ready)
        while True:
            try:
                bodies = self._connection.receive(block=not self._engine.has_unfinished())
                while bodies:
                    # All that is there: an abort must not wait for more than the running step.
                    for body in bodies:
                        self._handle(body)
                    bodies = self._connection.receive(block=False)
            except ipc.FrameError as error:
                self._restart_connection(error)
            if self._engine.has_unfinished():
                self._step()

    def _restart_connection(self, error: ipc.FrameError) -> None:
        print(f"engine: connection restarted: {error}", file=sys.stderr)
        self._bad_frames += 1
        self._abort_all()
        self._connection.reconnect()
        self._connection.send(self._ready)

    def _handle(self, body: bytes) -> None:
        try:
            command = ipc.decode_command(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._bad_frames += 1
            return
        match command:
            case ipc.Add(request):
                self._add(request)
            case ipc.Abort(request_id):
                if request_id in self._live:
                    self._live.discard(request_id)
                    self._engine.abort(request_id)
            case ipc.ResetCache(call_id):
                self._reply(call_id, self._engine.reset_prefix_cache())
            case ipc.GetStats(call_id) | ipc.Ping(call_id):
                self._reply(call_id, True)

    def _reply(self, call_id: int, ok: bool) -> None:
        self._connection.send(ipc.Reply(call_id, ok, self._engine.stats(), self._bad_frames))

    def _add(self, request: EngineRequest) -> None:
        """The fault barrier: whatever one request raises ends that request only."""
        name = request.request_id
        if name in self._live:
            self._reject(name, SixfoldError("request_id is in use"))
            return
        try:
            check_times(request)
            self._engine.add_request(request)
        except SixfoldError as error:
            self._reject(name, error)
        except Exception:
            traceback.print_exc()
            self._reject(name, None)
        else:
            self._live.add(name)

    def _reject(self, request_id: str, error: SixfoldError | None) -> None:
        message = "the engine failed on this request" if error is None else error.message
        hint = "" if error is None else error.hint
        param = getattr(error, "param", None)
        self._connection.send(ipc.Rejected(request_id, message, hint, param, error is None))

    def _step(self) -> None:
        try:
            deltas = self._engine.step()
            stats = self._engine.stats()
        except Exception:
            traceback.print_exc()
            self._step_faults += 1
            if self._step_faults >= MAX_STEP_FAULTS:
                raise
            deltas = self._fail_all()
            stats = self._engine.stats()
        else:
            self._step_faults = 0
        self._live.difference_update(d.request_id for d in deltas if d.finish_reason)
        self._send_deltas(deltas, stats)

    def _send_deltas(self, deltas: list[RequestDelta], stats: EngineStats) -> None:
        try:
            self._connection.send(ipc.Deltas(deltas, stats))
        except ipc.FrameError as error:
            if len(deltas) > 1:
                for delta in deltas:
                    self._send_deltas([delta], stats)
                return
            name = deltas[0].request_id
            self._engine.abort(name)
            self._live.discard(name)
            self._reject(name, SixfoldError(str(error), "ask for fewer logprobs"))

    def _fail_all(self) -> list[RequestDelta]:
        failed = [
            RequestDelta(request_id=name, finish_reason="error", error="the engine step failed")
            for name in sorted(self._live)
        ]
        self._abort_all()
        return failed

    def _abort_all(self) -> None:
        for name in self._live:
            self._engine.abort(name)
        self._live.clear()


def check_times(request: EngineRequest) -> None:
    """Times and priorities are compared by the scheduler: refuse those without an order."""
    times = (request.arrival_time, request.deadline or 0.0)
    if not all(math.isfinite(t) for t in times) or abs(request.priority) > 1 << 31:
        raise RequestError("deadline or priority is out of range", param="timeout")


def build_engine(spec: str, config: EngineConfig) -> tuple[Engine, ipc.Ready]:
    """The engine that `spec` (module:Class) names, built, and what it says of itself."""
    module, _, name = spec.partition(":")
    engine = getattr(importlib.import_module(module), name)(config)
    ready = ipc.Ready(
        vocab_size=engine.model_config.vocab_size,
        max_model_len=engine.max_model_len,
        max_num_seqs=config.max_num_seqs,
        num_kv_tokens=getattr(engine, "num_kv_tokens", 0),
    )
    return engine, ready


def main(argv: list[str] | None = None) -> int:
    """Run the engine process. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="sixfold-engine")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help="module:Class, for tests")
    arguments = parser.parse_args(argv)
    _die_with_parent()
    connection = Connection(arguments.socket)
    try:
        config = msgspec.json.decode(sys.stdin.buffer.read(), type=EngineConfig)
        engine, ready = build_engine(arguments.engine, config)
    except (SixfoldError, msgspec.DecodeError, ImportError, MemoryError) as error:
        hint = getattr(error, "hint", "")
        message = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        connection.send(ipc.Failed(message, hint))
        return 1
    try:
        EngineLoop(engine, connection, ready).run()
    except Disconnected:
        return 0
    except Exception:
        traceback.print_exc()
        return EXIT_FAULTY
    finally:
        engine.close()
    return 0


def _die_with_parent() -> None:
    """Ctrl-C and SIGTERM reach the whole process group: the API process decides, we follow it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = os.getppid()
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


if __name__ == "__main__":
    # The native pool's threads may still sleep in a step: leave without waiting for them.
    code = main()
    sys.stderr.flush()
    os._exit(code)
