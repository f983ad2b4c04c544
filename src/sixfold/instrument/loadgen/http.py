"""Connections to one server: an asyncio protocol that stamps segments, and a keep-alive pool.

HTTP/1.1 over TCP or TLS; as many connections as there are requests at once. Not here: the
response's framing (framing.py), what is asked and answered (client.py).
"""

import asyncio
import contextlib
import ssl
import time

from sixfold.instrument.loadgen.framing import MalformedError, Response


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    __slots__ = ("_done", "_response", "_transport", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._done: asyncio.Future[None] | None = None

    @property
    def peer(self) -> str:
        """The numeric address of the server."""
        assert self._transport is not None
        return str(self._transport.get_extra_info("peername")[0])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def start(self, payload: bytes, response: Response) -> asyncio.Future[None]:
        """Send a request. The future is done when `response` is, complete or not."""
        assert self._transport is not None and self._response is None
        self._done = asyncio.get_running_loop().create_future()
        self._response = response
        self._transport.write(payload)
        return self._done

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The hot path: a stamp, and a walk over the framing."""
        now = time.monotonic()
        response = self._response
        if response is None:
            self.abort()
            return
        try:
            if response.feed(data, now):
                self._finish()
        except MalformedError as error:
            response.error = f"malformed response: {error}"
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.closed = True
        if self._response is not None:
            if exc is None:
                self._response.close()
            self._finish()

    def abort(self) -> None:
        """End the connection now, and the response on it, if any, incomplete."""
        self.closed = True
        if self._response is not None:
            self._finish()
        if self._transport is not None:
            self._transport.abort()

    def _finish(self) -> None:
        self._response = None
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class Pool:
    """Connections to one server. Those not in use wait for the next request, newest first."""

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, connect_timeout: float
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._connect_timeout = connect_timeout
        self._idle: list[Connection] = []
        self._address = ""

    async def exchange(self, payload: bytes, timeout: float) -> Response:
        """Send a request and read its response, whole or as far as it came (see `complete`).

        A kept-alive connection that the server closed before it answered is tried once more on a
        new one. Raises OSError where no connection can be made, TimeoutError after `timeout`
        seconds or where connecting takes too long.
        """
        start = time.monotonic()
        connection = self._take_idle()
        if connection is not None:
            response = await self._send(connection, payload, timeout)
            if response.started:
                return response
        connection = await self._connect(timeout)
        return await self._send(connection, payload, timeout - (time.monotonic() - start))

    def close(self) -> None:
        """End the connections that wait."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self, timeout: float) -> Connection:
        limit = min(self._connect_timeout, timeout)
        # The name is looked up once; later connections go straight to the address.
        try:
            async with asyncio.timeout(limit):
                _, connection = await asyncio.get_running_loop().create_connection(
                    Connection,
                    self._address or self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError:
            raise TimeoutError(f"no connection within {limit:g} s") from None
        self._address = connection.peer
        return connection

    async def _send(self, connection: Connection, payload: bytes, timeout: float) -> Response:
        response = Response()
        done = connection.start(payload, response)
        late = asyncio.get_running_loop().call_later(timeout, _expire, connection, response)
        try:
            await done
        finally:
            late.cancel()
            if response.complete and response.keep and not connection.closed:
                self._idle.append(connection)
            else:
                with contextlib.suppress(OSError):
                    connection.abort()
        return response


def _expire(connection: Connection, response: Response) -> None:
    response.started = True  # Not a case for another try.
    response.error = "timed out"
    connection.abort()
