"""One TCP connection: time limits around uvicorn's HTTP/1.1 protocol, which has none of its own.

Closes connections that send their headers or body too slowly, that stop reading their answer,
or whose chunked body is made of crumbs. Wraps the protocol, so that it stays as it is. Not
here: limits that need a parsed request (limits.py).
"""

import asyncio
import socket
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState as UvicornState

from sixfold.serving.server.config import ServerConfig

SEND_BUFFER = 128 << 10
"""Kernel bytes queued for a client that doesn't read: bounds memory, and makes it noticed."""

MAX_LINES = 16384
"""CRLFs in one chunked request: a body of 1-byte chunks costs far more than its size."""

_BUSY_BODY = (
    b'{"error":{"message":"too many connections","type":"overloaded_error",'
    b'"param":null,"code":"overloaded"}}'
)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
) % (len(_BUSY_BODY), _BUSY_BODY)


class GuardedProtocol(asyncio.Protocol):
    """Forwards to an H11Protocol and keeps the deadlines of the connection's phase."""

    def __init__(self, uvicorn: Config, state: UvicornState, config: ServerConfig) -> None:
        self._inner = H11Protocol(uvicorn, state, {})
        self._state = state
        self._config = config
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._phase: tuple[Any, Any] | None = None
        self._lines = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: it has header_timeout seconds for its first headers."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._state.connections) >= self._config.max_connections:
            transport.write(_BUSY)
            transport.close()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._inner.connection_made(transport)
        self._enter_phase()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._cancel(self._timer)
        self._cancel(self._write_timer)
        if self._phase is not None:
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._transport is None or self._transport.is_closing() or self._phase is None:
            return
        if self._counts_lines():
            self._lines += data.count(b"\r\n")
        if self._lines > MAX_LINES:
            self._transport.abort()
            return
        self._inner.data_received(data)
        self._enter_phase()

    def eof_received(self) -> bool | None:
        """The client sends no more: as without this wrapper, the connection ends."""
        return None

    def pause_writing(self) -> None:
        """The client doesn't read: it has write_timeout seconds to go on."""
        self._inner.pause_writing()
        self._cancel(self._write_timer)
        loop = asyncio.get_running_loop()
        self._write_timer = loop.call_later(self._config.write_timeout, self._abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._inner.resume_writing()
        self._cancel(self._write_timer)

    def _counts_lines(self) -> bool:
        """True but inside a body of stated length, whose lines cost nothing."""
        if self._inner.conn.their_state is not h11.SEND_BODY:
            return True
        return any(name == b"transfer-encoding" for name, _ in self._inner.headers)

    def _enter_phase(self) -> None:
        """Set the deadline anew when the connection has moved on, and only then."""
        conn_state = self._inner.conn.their_state
        phase = (conn_state, self._inner.cycle)
        if phase == self._phase:
            return
        if conn_state is not h11.SEND_BODY:
            self._lines = 0
        self._phase = phase
        self._cancel(self._timer)
        self._timer = None
        seconds = None
        if conn_state is h11.IDLE:
            seconds = self._config.header_timeout
        elif conn_state is h11.SEND_BODY:
            # The gate answers 408 first; this ends a body that nobody reads any more.
            seconds = self._config.body_timeout + 2.0
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        """The phase took too long, unless a request is being answered meanwhile."""
        cycle = self._inner.cycle
        if self._inner.conn.their_state is h11.IDLE or (cycle and cycle.response_started):
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @staticmethod
    def _cancel(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
