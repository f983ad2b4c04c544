"""A server in threads whose answers are scripts over the bare socket, and a recorder before it."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sixfold.instrument.recorder.entry import Entry
from sixfold.instrument.recorder.proxy import ProxyConfig
from sixfold.instrument.recorder.run import Recording, record
from sixfold.instrument.recorder.trace_file import read_entries
from sixfold.instrument.workloads.lines import read_lines

PATIENCE = 30.0
"""Seconds after which something that should happen at once is given up."""


def eventually(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return result


@dataclass
class Asked:
    """One request as the server got it."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}


Script = Callable[[Asked, socket.socket], bool]
"""Answers on the socket; True to keep the connection."""


class Upstream:
    """Serves while it is open."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.hung_up = threading.Event()
        """A connection was closed by the other side."""
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> "Upstream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                break
            number = len(threads)
            threads.append(threading.Thread(target=self._serve, args=(sock, number)))
            threads[-1].start()
        for thread in threads:
            thread.join(PATIENCE)

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._sockets.append(sock)
            with sock, sock.makefile("rb") as file:
                while (asked := read_request(file, number, sock)) is not None:
                    self.asked.append(asked)
                    if not self._script(asked, sock):
                        return
                self.hung_up.set()


def read_request(file: Any, number: int, sock: socket.socket) -> Asked | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        if not line:
            return None
        head += line
    asked = Asked(head, b"", number)
    if "expect" in asked.headers:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "transfer-encoding" in asked.headers:
        while (line := file.readline()) and (size := int(line, 16)):
            piece = file.read(size)
            if len(piece) < size:
                return None
            asked.body += piece
            file.readline()
        if not file.readline():
            return None
    else:
        length = int(asked.headers.get("content-length", "0"))
        asked.body = file.read(length)
        if len(asked.body) < length:
            return None
    return asked


def whole(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    """A response of known length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def says(response: bytes) -> Script:
    """The same answer to every request, in one piece."""

    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(response)
        return True

    return script


def completion(text: str = "hello there", prompt: int = 9, tokens: int = 3) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens}
    choice = {"index": 0, "text": text, "finish_reason": "stop"}
    return msgspec.json.encode({"choices": [choice], "usage": usage})


class Recorded:
    """A recorder on a loop of its own, in a thread; `entries` once it is closed."""

    def __init__(self, upstream: str, path: Path, keep_text: bool = False, **proxy: Any) -> None:
        self.path = path
        config = ProxyConfig(upstream=upstream, port=0, **proxy)
        self._recording = Recording(proxy=config, output=str(path), keep_text=keep_text)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),))
        self.port = 0
        self.problems: list[Any] = []

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda _, context: self.problems.append(context))

        def ready(url: str) -> None:
            self.port = int(url.rpartition(":")[2])
            self._ready.set()

        await record(self._recording, ready, self._stop)

    def __enter__(self) -> "Recorded":
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive() and not self.problems

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    @property
    def entries(self) -> list[Entry]:
        return list(read_entries(read_lines(str(self.path))))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)


def post(body: bytes, path: str = "/v1/completions", *more: str, port: int = 8000) -> bytes:
    """A request's bytes."""
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *more]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def received(sock: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def received_with(sock: socket.socket, sign: bytes) -> bytes:
    """What comes until `sign` is in it."""
    data = b""
    while sign not in data:
        part = sock.recv(1 << 16)
        assert part, data
        data += part
    return data
