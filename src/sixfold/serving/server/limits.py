"""The gate in front of every route: what no request may do, whoever wrote its handler.

An ASGI middleware: header limits, request smuggling, browsers' cross-site requests, API keys
(default-deny, on the path the router sees), draining, body size and body time, and the last
resort for exceptions. Not here: connections that never become a request (connection.py).
"""

import asyncio
import hmac
import time
import traceback

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sixfold.core.addresses import is_loopback
from sixfold.core.errors import OverloadedError, SixfoldError
from sixfold.serving.server.config import ServerConfig
from sixfold.serving.server.http_errors import HttpError, error_response
from sixfold.serving.server.state import ServerState

MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 << 10

OPEN_PATHS = frozenset(("/health", "/ready"))
"""What needs no API key, by exact path: everything else does, known route or not."""

UPLOAD_PATH = "/v1/files"
MULTIPART_BYTES = 64 << 10
"""Around a file, in its form."""

_ANSWERED_WHILE_DRAINING = OPEN_PATHS | {"/metrics", "/load", "/version"}

Headers = list[tuple[bytes, bytes]]

_FRAMING_HEADERS = (b"content-length", b"transfer-encoding")


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete: nobody to answer."""


class Gate:
    """ASGI middleware, see the module. Sets scope["state"]: `arrival_time` and `tenant`."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state
        self._keys = tuple(key.encode() for key in state.config.api_keys)
        self._local_only = not self._keys and is_loopback(state.config.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        scope["app"] = self._app
        arrival = time.monotonic()
        sender = Sender(send)
        limit, seconds = body_limits(scope, self._state.config)
        body = Body(receive, limit, seconds, scope["headers"])
        try:
            check_headers(scope["headers"], limit)
            tenant = self._authenticate(scope)
            self._check_drain(scope["path"])
            scope["state"] = {"arrival_time": arrival, "tenant": tenant}
            with self._state.http_request():
                await self._app(scope, body, sender)
        except ClientGoneError:
            return
        except HTTPException as error:
            await self._fail(HttpError(error.status_code, error.detail), scope, (sender, body))
        except Exception as error:
            await self._fail(error, scope, (sender, body))

    async def _fail(self, error: Exception, scope: Scope, ends: "tuple[Sender, Body]") -> None:
        sender, body = ends
        if not isinstance(error, SixfoldError):
            traceback.print_exception(error)
        if sender.started:
            # Too late for a status: end the connection, so that nobody takes it for whole.
            raise error
        # Unread body bytes would be taken for the next request's: end the connection instead.
        await error_response(error, close=not body.complete)(scope, body, sender)

    def _authenticate(self, scope: Scope) -> str:
        """The tenant's name ("" where there is one tenant only). Raises HttpError."""
        headers: Headers = scope["headers"]
        check_origin(headers, self._local_only)
        if not self._keys or scope["path"] in OPEN_PATHS:
            return ""
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        found = -1
        for index, key in enumerate(self._keys):
            # Every key is compared, in constant time: how long it takes tells nothing.
            if hmac.compare_digest(token.strip(), key):
                found = index
        if found < 0 or scheme.lower() != b"bearer":
            raise HttpError(401, "missing or wrong API key", "send Authorization: Bearer <key>")
        return self._keys[found].decode() if len(self._keys) > 1 else ""

    def _check_drain(self, path: str) -> None:
        if self._state.draining and path not in _ANSWERED_WHILE_DRAINING:
            self._state.metrics.reject("draining")
            error = OverloadedError("the server is shutting down", "use another replica")
            raise _Closing(error)


class _Closing(HttpError):
    """A 503 that also ends the connection."""

    def __init__(self, error: OverloadedError) -> None:
        super().__init__(503, error.message, error.hint, close=True)


class Sender:
    """Remembers whether the answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        """Send an ASGI message."""
        self.started = True
        await self._send(message)


class Body:
    """Counts the body's bytes, and its time, while it is read."""

    def __init__(self, receive: Receive, limit: int, seconds: float, headers: Headers) -> None:
        self._receive = receive
        self._limit = limit
        self._deadline = time.monotonic() + seconds
        self._size = 0
        self.complete = not any(name in _FRAMING_HEADERS for name, _ in headers)

    async def __call__(self) -> Message:
        """The next ASGI message. Raises HttpError: 408 too slow, 413 too large."""
        if self.complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise HttpError(
                408, "the body did not arrive in time", "send it faster", close=True
            ) from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self._size > self._limit:
                raise _too_large(self._limit)
        return message


def body_limits(scope: Scope, config: ServerConfig) -> tuple[int, float]:
    """(bytes, seconds) that the body may have: an upload is larger than what is kept in memory."""
    if scope["path"] == UPLOAD_PATH and scope["method"] == "POST":
        return (config.max_file_mb << 20) + MULTIPART_BYTES, config.upload_timeout
    return config.max_body_bytes, config.body_timeout


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes", "send less", close=True)


def check_headers(headers: Headers, max_body_bytes: int) -> None:
    """Refuse too many or too large headers, and ambiguous framing. Raises HttpError."""
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise HttpError(
            431,
            f"at most {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes together are taken",
            "send fewer",
            close=True,
        )
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if (lengths and codings) or len(lengths) > 1 or len(codings) > 1:
        raise HttpError(
            400, "Content-Length and Transfer-Encoding conflict", "send one of them", close=True
        )
    if lengths and not lengths[0].isdigit():
        raise HttpError(400, "Content-Length is not a number", "mend it", close=True)
    if lengths and int(lengths[0][:20]) > max_body_bytes:
        raise _too_large(max_body_bytes)


def check_origin(headers: Headers, local_only: bool) -> None:
    """Refuse web pages of other sites, and names that were re-bound to this machine (403)."""
    hosts = [value for name, value in headers if name == b"host"]
    host = hosts[0].decode("latin-1") if hosts else ""
    if local_only and host and not is_loopback(_host_name(host)):
        raise HttpError(403, "this server answers to localhost only", "set an API key", close=True)
    for name, value in headers:
        if name == b"origin" and value.decode("latin-1").partition("//")[2] != host:
            raise HttpError(403, "cross-site requests are refused", "call from a server")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises HttpError (408, 413), ClientGoneError."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def wait_disconnect(receive: Receive) -> None:
    """Return when the client has gone; call it after the body was read."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
