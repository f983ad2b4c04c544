"""What a proxy does to heads: which requests it refuses, which headers stay behind, its own errors.

Pure. The server's name takes the place of the proxy's in Host, so the check that Host is there for
is made here: a page of another site can't reach a server behind a proxy on this machine.
Not here: sockets (proxy).
"""

from collections.abc import Iterator

import h11
import msgspec

from sixfold.core.addresses import is_loopback

MAX_HEAD = 64 << 10
"""Bytes of a request's or a response's head."""
_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    )
)
_ALWAYS_PASS = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
"""What no Connection header can have left behind."""
Pairs = list[tuple[bytes, bytes]]


class RefusedError(Exception):
    """A request that the proxy answers itself."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        """A word for the error's kind, as the answer and the trace have it."""


def check_request(request: h11.Request, local_only: bool, max_body_bytes: int) -> None:
    """Raises RefusedError for what is not passed on. `local_only`: asked by a local name only."""
    values: dict[bytes, bytes] = dict(request.headers)
    if request.method == b"CONNECT" or not request.target.startswith(b"/"):
        raise RefusedError(400, "this proxy stands before one server: send a path", "bad_target")
    if b"content-length" in values and b"transfer-encoding" in values:
        raise RefusedError(400, "Content-Length and Transfer-Encoding conflict", "bad_framing")
    if local_only and not is_loopback(_host_name(values.get(b"host", b"localhost"))):
        raise RefusedError(403, "this proxy answers to localhost only", "bad_host")
    if int(values.get(b"content-length", b"0")) > max_body_bytes:
        raise too_large(max_body_bytes)


def too_large(limit: int) -> RefusedError:
    """For a body beyond the limit."""
    return RefusedError(413, f"the body is larger than {limit} bytes", "body_too_large")


def endpoint_of(request: h11.Request) -> str:
    """The request's path, without its query."""
    return request.target.partition(b"?")[0].decode("latin-1")


def header(event: h11.Request | h11.Response, name: bytes) -> bytes:
    """A header's value, by its name in small letters; empty for none."""
    return next((value for key, value in event.headers if key == name), b"")


def to_server(request: h11.Request, host: str, base: str) -> h11.Request:
    """The request as the server gets it. `base`: what its paths have before /v1."""
    headers: Pairs = [(b"Host", host.encode("ascii"))]
    headers += [pair for pair in _end_to_end(request) if pair[0].lower() != b"host"]
    target = base.encode("ascii") + request.target
    return h11.Request(method=request.method, target=target, headers=headers)


def to_client(response: h11.Response) -> h11.Response:
    """The response as the client gets it; h11 frames its body anew where it has no length."""
    framed = bool(header(response, b"transfer-encoding"))
    headers: Pairs = [
        (name, value)
        for name, value in _end_to_end(response)
        if name.lower() != b"transfer-encoding"
        and not (framed and name.lower() == b"content-length")
    ]
    return h11.Response(status_code=response.status_code, headers=headers, reason=response.reason)


def information(event: h11.InformationalResponse) -> h11.InformationalResponse:
    """An interim response as the client gets it."""
    headers: Pairs = list(_end_to_end(event))
    return h11.InformationalResponse(status_code=event.status_code, headers=headers)


def own_answer(status: int, message: str, code: str, bodiless: bool = False) -> list[h11.Event]:
    """An error of the proxy's own, in OpenAI's shape. The connection ends with it."""
    error = {"message": message, "type": "proxy_error", "param": None, "code": code}
    body = msgspec.json.encode({"error": error})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    events: list[h11.Event] = [h11.Response(status_code=status, headers=headers)]
    return [*events, *([] if bodiless else [h11.Data(data=body)]), h11.EndOfMessage()]


def _end_to_end(
    event: h11.Request | h11.Response | h11.InformationalResponse,
) -> Iterator[tuple[bytes, bytes]]:
    """Headers with their names as written, but those that concern one connection only."""
    named = {
        word.strip().lower()
        for name, value in event.headers
        if name == b"connection"
        for word in value.split(b",")
    }
    dropped = _HOP | (named - _ALWAYS_PASS)
    for name, value in event.headers.raw_items():
        if name.lower() not in dropped:
            yield name, value


def _host_name(host: bytes) -> str:
    text = host.decode("latin-1")
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
