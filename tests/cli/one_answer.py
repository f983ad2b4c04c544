"""A server on loopback that says what it is told to: for each connection, bytes, then it closes."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

MODELS = b'{"object": "list", "data": [{"id": "m", "object": "model"}]}'


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks: bytes) -> bytes:
    """A stream's head and its chunks, without the last one, which would end it."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


@contextlib.contextmanager
def says(*answers: bytes, reset: bool = False) -> Iterator[str]:
    """The URL of a server whose n-th connection is answered by `answers[n]`.

    With `reset`, the last connection ends as that of a killed process may: by a reset.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, answers, reset))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):  # wakes a server that nobody has asked
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _serve(listener: socket.socket, answers: tuple[bytes, ...], reset: bool) -> None:
    for number, data in enumerate(answers, 1):
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            _read_request(connection)
            connection.sendall(data)
            if reset and number == len(answers):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_request(connection: socket.socket) -> None:
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            return
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += connection.recv(65536)
