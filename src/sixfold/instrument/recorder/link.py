"""One client's connection through the proxy: request by request, both directions at once.

A client's connection has one of its own to the server, so both sides see the keep-alive, the pace
and the end of the other. h11 reads and writes the framing. Bytes go out before they are held.
Not here: listening (proxy), which headers pass (heads), what was said (observe).
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import h11
import msgspec

from sixfold.instrument.recorder import heads
from sixfold.instrument.recorder.heads import MAX_HEAD, RefusedError
from sixfold.instrument.recorder.held import Exchange

READ = 64 << 10
HEAD_SECONDS = 75.0
"""How long a client may take for a request's head, or keep a connection for the next."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read, so that the client gets to read why."""
CUT = "the server broke off"


class GoneError(Exception):
    """The client closed its connection."""


class BrokenError(Exception):
    """The server is not there, or broke off."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail


class Side:
    """One socket with its HTTP state."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, http: h11.Connection
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.http = http

    def send(self, *events: h11.Event) -> None:
        """Write events in one piece."""
        self.writer.write(b"".join([self.http.send(event) or b"" for event in events]))

    async def event(self) -> h11.Event | type[h11.PAUSED]:
        """The next event. Raises h11.RemoteProtocolError and OSError."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(READ))
        assert not isinstance(event, type) or event is h11.PAUSED
        return event

    def renew(self) -> bool:
        """Make ready for the next request; False where the connection can't have one."""
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
            return True
        return False

    @property
    def usable(self) -> bool:
        """Nothing says that the other end has closed it."""
        return not (self.reader.at_eof() or self.writer.is_closing())

    async def close(self) -> None:
        """Send what is written, and close."""
        self.writer.close()
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            self.writer.transport.abort()


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where a link's requests go, and what holds for them."""

    upstream: str
    """The server, as messages name it."""
    netloc: str
    """Its name and port, as Host has them."""
    base: str
    """What its paths have before /v1."""
    local_only: bool
    max_body_bytes: int
    max_held_bytes: int
    connect: Callable[[], Awaitable["Side"]]
    """Raises BrokenError."""
    took: Callable[[Exchange], None]
    """Is given each POST that is over."""


class Link:
    """One client's connection, and the one to the server that it came to need."""

    def __init__(self, way: Way, client: Side) -> None:
        self.busy = False
        """A request is under way."""
        self.last = False
        """No request follows the one under way."""
        self._way = way
        self._client = client
        self._server: Side | None = None

    async def serve(self) -> None:
        """Pass requests, one after the other, until one side ends the connection."""
        try:
            while not self.last and await self._next():
                pass
            await self._linger()
        except OSError:
            pass  # The client has gone.
        finally:
            self._client.writer.close()
            if self._server is not None:
                await self._server.close()
            await self._client.close()

    async def _next(self) -> bool:
        """Pass one request; False when the connection is to end."""
        try:
            request = await self._head()
        except h11.RemoteProtocolError as error:
            self._answer(error.error_status_hint, str(error), "bad_request")
            return False
        if request is None:
            return False
        exchange = Exchange(heads.endpoint_of(request), self._way.max_held_bytes)
        exchange.request_coding = heads.header(request, b"content-encoding")
        self.busy = True
        try:
            return await self._exchange(request, exchange)
        finally:
            self.busy = False
            exchange.ended = exchange.ended or time.monotonic()
            if request.method == b"POST":
                self._way.took(exchange)

    async def _head(self) -> h11.Request | None:
        """The next request's head; None where there is none."""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                event = await self._client.event()
        except TimeoutError:
            return None
        return event if isinstance(event, h11.Request) else None

    async def _exchange(self, request: h11.Request, exchange: Exchange) -> bool:
        """Pass a request and its answer; whatever goes wrong is noted, and told where it can be."""
        try:
            heads.check_request(request, self._way.local_only, self._way.max_body_bytes)
            return await self._pass(request, exchange)
        except RefusedError as error:
            exchange.error = error.code
            told = error.status, error.message, error.code
        except BrokenError as error:
            exchange.error = error.kind
            told = 502, f"{self._way.upstream}: {error.detail}", error.kind
        except GoneError:
            exchange.client_gone = True
            return False
        except asyncio.CancelledError:
            exchange.error = "recorder_stopped"
            raise
        if exchange.status == 0:
            exchange.status = told[0]
            self._answer(*told, bodiless=request.method == b"HEAD")
        return False

    async def _pass(self, request: h11.Request, exchange: Exchange) -> bool:
        """Both directions at once. True if the client's connection can have another request."""
        server = await self._connected()
        server.send(heads.to_server(request, self._way.netloc, self._way.base))
        up = asyncio.create_task(self._upload(server, exchange))
        down = asyncio.create_task(self._download(server, exchange))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            (down if down.done() else up).result()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            exchange.ended = time.monotonic()
            if server.http.trailing_data[0] or not server.renew():
                self._server = None
                server.writer.close()
        return self._client.renew()

    async def _connected(self) -> Side:
        if self._server is None or not self._server.usable:
            if self._server is not None:
                self._server.writer.close()
            self._server = None
            self._server = await self._way.connect()
        return self._server

    async def _upload(self, server: Side, exchange: Exchange) -> NoReturn:
        """Pass the body on, then watch the client. Raises GoneError, RefusedError."""
        held, limit = exchange.request, self._way.max_body_bytes
        while True:
            event = await self._body_event()
            if isinstance(event, h11.EndOfMessage):
                break
            data = bytes(event.data)
            if held.total + len(data) > limit:
                raise heads.too_large(limit)
            server.send(h11.Data(data=data))
            held.add(data, time.monotonic())
            with contextlib.suppress(OSError):  # The other direction tells what became of it.
                await server.writer.drain()
        server.send(h11.EndOfMessage())
        await self._watch()

    async def _body_event(self) -> h11.Data | h11.EndOfMessage:
        try:
            event = await self._client.event()
        except h11.RemoteProtocolError as error:
            if self._client.http.trailing_data[1]:  # It is the end that is malformed.
                raise GoneError from None
            raise RefusedError(400, str(error), "bad_request") from None
        except OSError:
            raise GoneError from None
        if isinstance(event, h11.Data | h11.EndOfMessage):
            return event
        raise GoneError

    async def _watch(self) -> NoReturn:
        """Wait until the client leaves. What it sends meanwhile is its next request's."""
        early = 0
        while True:
            if early > MAX_HEAD:
                await asyncio.sleep(HEAD_SECONDS)
                continue
            try:
                data = await self._client.reader.read(READ)
            except OSError:
                raise GoneError from None
            if not data:
                raise GoneError
            early += len(data)
            self._client.http.receive_data(data)

    async def _download(self, server: Side, exchange: Exchange) -> None:
        """Pass the answer on: first the bytes go out, then they are held."""
        now = time.monotonic()
        while True:
            try:
                out, body, over = self._answered(server, exchange)
            except h11.ProtocolError as error:
                raise BrokenError("upstream_closed", f"{CUT}: {error}") from None
            if out:
                self._client.writer.write(out)
            for data in body:
                exchange.response.add(data, now)
            try:
                await self._client.writer.drain()
            except OSError:
                raise GoneError from None
            if over:
                return
            try:
                data = await server.reader.read(READ)
            except OSError as error:
                raise BrokenError("upstream_closed", f"{CUT}: {error}") from None
            now = time.monotonic()
            server.http.receive_data(data)

    def _answered(self, server: Side, exchange: Exchange) -> tuple[bytes, list[bytes], bool]:
        """What came of the answer: bytes for the client, the body's bytes, whether it is over."""
        out: list[bytes] = []
        body: list[bytes] = []
        send = self._client.http.send
        while (event := server.http.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Data):
                body.append(bytes(event.data))
                out.append(send(h11.Data(data=body[-1])))
            elif isinstance(event, h11.Response):
                exchange.status = event.status_code
                exchange.content_type = heads.header(event, b"content-type")
                exchange.response_coding = heads.header(event, b"content-encoding")
                out.append(send(heads.to_client(event)))
            elif isinstance(event, h11.InformationalResponse):
                if self._client.http.their_http_version != b"1.0":
                    out.append(send(heads.information(event)))
            else:
                out.append(send(h11.EndOfMessage()))
                return b"".join(out), body, True
        return b"".join(out), body, False

    def _answer(self, status: int, message: str, code: str, bodiless: bool = False) -> None:
        """An answer of our own, where none has begun; then the connection ends."""
        if self._client.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        self._client.send(*heads.own_answer(status, message, code, bodiless))

    async def _linger(self) -> None:
        """End our side, and read what the client still sends: else it may never see the answer."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                self._client.writer.write_eof()
                while await self._client.reader.read(READ):
                    pass
