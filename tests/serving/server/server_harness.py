"""Starts a real server process (in front of the fake engine) and speaks to it over loopback."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

HERE = Path(__file__).parent
SOURCE = HERE.parents[2] / "src"
PATIENCE = 30.0
"""Seconds after which something that should happen at once is given up."""


def environment() -> dict[str, str]:
    """The environment of a process that can import sixfold and the fake engine."""
    paths = [str(SOURCE), str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until `condition` holds, and return what it gave."""
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return result


class Server:
    """A server process on a free port of 127.0.0.1."""

    def __init__(
        self,
        engine: dict[str, Any] | None = None,
        *,
        command: Sequence[str] | None = None,
        **config: Any,
    ) -> None:
        """In front of `engine`, the fake one by default; or what `command` starts."""
        engine_json = msgspec.json.encode({"model": "fake"} | (engine or {})).decode()
        config_json = msgspec.json.encode({"port": 0} | config).decode()
        fake = [sys.executable, str(HERE / "serve_fake.py"), engine_json, config_json]
        self._stderr = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 (closed by close)
        self.process = subprocess.Popen(
            fake if command is None else command,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment() | {"PYTHONFAULTHANDLER": "1"},
            text=True,
        )
        assert self.process.stdout is not None
        self.banner = self.process.stdout.readline()
        found = re.search(r"http://[^ ]+:(\d+)", self.banner)
        self.url = found.group(0) if found else ""
        self.port = int(found.group(1)) if found else 0

    def stderr(self) -> str:
        """What the server and its engine have said so far."""
        self._stderr.seek(0)
        return self._stderr.read()

    def close(self) -> None:
        """Forget what was said."""
        self._stderr.close()

    def client(self, **kwargs: Any) -> httpx.Client:
        """An HTTP client of this server."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE, **kwargs)

    def post(self, path: str, body: dict[str, Any], **kwargs: Any) -> httpx.Response:
        """One POST."""
        with self.client() as client:
            return client.post(path, json=body, **kwargs)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        """One GET."""
        with self.client() as client:
            return client.get(path, **kwargs)

    def complete(self, prompt: str, max_tokens: int, **fields: Any) -> httpx.Response:
        """One completion."""
        body = {"prompt": prompt, "max_tokens": max_tokens} | fields
        return self.post("/v1/completions", body)

    def engine_pids(self) -> list[int]:
        """The server's child processes."""
        found: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text().split())
        return sorted(found)

    def ready(self) -> bool:
        """What /ready says."""
        return self.get("/ready").status_code == 200

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A raw connection."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def raw(self, data: bytes) -> bytes:
        """Send bytes and read to the end of the connection."""
        with self.connect() as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(data)
            return read_all(sock)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def serving(model: str, *flags: str) -> Server:
    """`sixfold serve`, as users start it."""
    command = (sys.executable, "-m", "sixfold", "serve", model, "--port", "0", *flags)
    running = Server(command=command)
    assert running.port, running.stderr()
    return running


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side ends the connection, politely or not."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            parts.append(data)
    return b"".join(parts)


def alive(pid: int) -> bool:
    """True while a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def events(lines: Iterator[str]) -> Iterator[dict[str, Any] | str]:
    """The data of server-sent events: parsed JSON, or the text [DONE]. Checks the framing."""
    for line in lines:
        if not line:
            continue
        assert line.startswith("data: "), line
        data = line.removeprefix("data: ")
        yield data if data == "[DONE]" else msgspec.json.decode(data)


def request_bytes(path: str, body: bytes, *headers: str) -> bytes:
    """A raw POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
