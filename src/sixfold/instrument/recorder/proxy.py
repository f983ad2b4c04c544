"""A pass-through HTTP/1.1 proxy before one server: both bodies stream through as they come.

Not here: one connection (link), what was said (held, observe), the trace (run).
"""

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import h11
import msgspec

from sixfold.core.addresses import is_loopback
from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.recorder.heads import MAX_HEAD, own_answer
from sixfold.instrument.recorder.held import Exchange
from sixfold.instrument.recorder.link import BrokenError, Link, Side, Way

CONNECT_SECONDS = 10.0
GRACE_SECONDS = 5.0
"""How long requests in flight may go on when the proxy ends."""


class ProxyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a proxy listens and what it stands before. Raises ConfigError for what can't be."""

    upstream: str
    """The server's base, with or without /v1; http or https."""
    host: str = "127.0.0.1"
    port: int = 8100
    """0 takes a free one."""
    insecure_bind: bool = False
    """Listen on another address than a loopback one: whoever reaches it may use the server."""
    max_connections: int = 256
    """Of clients; more are answered 503."""
    max_body_bytes: int = 64 << 20
    """Of a request; a larger one is answered 413."""
    max_held_bytes: int = 8 << 20
    """Of a body that is looked at, at its end; a larger one passes, and less is known of it."""

    def __post_init__(self) -> None:
        target = Target(url=self.upstream)
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"{self.port} is no port", "0 to 65535")
        if not (self.insecure_bind or is_loopback(self.host)):
            hint = "listen on 127.0.0.1, or pass --insecure-bind"
            raise ConfigError(f"whoever reaches {self.host} could use {self.upstream}", hint)
        url = urlsplit(self.upstream)
        if target.loopback and is_loopback(self.host) and self.port and url.port == self.port:
            hint = "listen on another port"
            raise ConfigError(f"{self.upstream} is where the proxy itself listens", hint)


class Proxy:
    """Listens from `open` to `close`. Each POST that is over goes to `took`, on the event loop."""

    def __init__(self, config: ProxyConfig, took: Callable[[Exchange], None]) -> None:
        self.config = config
        url = urlsplit(config.upstream)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._address = url.hostname or "", url.port or (443 if self._tls else 80)
        self._way = Way(
            upstream=config.upstream,
            netloc=url.netloc,
            base=url.path.rstrip("/").removesuffix("/v1"),
            local_only=is_loopback(config.host),
            max_body_bytes=config.max_body_bytes,
            max_held_bytes=config.max_held_bytes,
            connect=self._connect,
            took=took,
        )
        self._links: dict[asyncio.Task[None], Link] = {}
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Bind and accept. Raises ConfigError."""
        host, port = self.config.host, self.config.port
        try:
            self._server = await asyncio.start_server(self._accept, host, port, backlog=1024)
        except (OSError, UnicodeError) as error:
            hint = "another program may listen there: pass --listen with another port"
            raise ConfigError(f"can't listen on {host}:{port}: {error}", hint) from None

    @property
    def url(self) -> str:
        """Where it is reached."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self, grace: float = GRACE_SECONDS) -> None:
        """Stop accepting; requests in flight may end within `grace` seconds, or are cut."""
        if self._server is None:
            return
        self._server.close()
        for task, link in list(self._links.items()):
            link.last = True
            if not link.busy:
                task.cancel()
        if self._links:
            await asyncio.wait(list(self._links), timeout=grace)
        for task in list(self._links):
            task.cancel()
        if self._links:
            await asyncio.wait(list(self._links))
        await self._server.wait_closed()

    async def _connect(self) -> Side:
        """A new connection to the server. Raises BrokenError."""
        host, port = self._address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(host, port, ssl=self._tls)
        except (OSError, UnicodeError) as error:
            detail = str(error) or f"no connection within {CONNECT_SECONDS:g} s"
            raise BrokenError("upstream_unreachable", detail) from None
        return Side(reader, writer, h11.Connection(h11.CLIENT, MAX_HEAD))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Side(reader, writer, h11.Connection(h11.SERVER, MAX_HEAD))
        task = asyncio.current_task()
        assert task is not None
        if len(self._links) >= self.config.max_connections:
            client.send(*own_answer(503, "too many connections", "overloaded"))
            await client.close()
            return
        self._links[task] = link = Link(self._way, client)
        try:
            await link.serve()
        except asyncio.CancelledError:
            pass  # By `close` only: there is nobody to tell.
        finally:
            del self._links[task]
