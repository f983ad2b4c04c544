"""The TCP listener: sockets in front of the application, without uvicorn's own main loop.

Uvicorn's HTTP/1.1 protocol serves each connection (inside connection.py's limits); its server
class is left out, because it would stop listening on SIGTERM where we still answer 503.
"""

import asyncio
import logging

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState as UvicornState

from sixfold.serving.server.config import ServerConfig
from sixfold.serving.server.connection import GuardedProtocol
from sixfold.serving.server.limits import MAX_HEADER_BYTES

_CLOSE_SECONDS = 1.0


class Listener:
    """Accepts connections while it is open."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._config = config
        self._state = UvicornState()
        self._server: asyncio.Server | None = None
        # Requests by strangers are not worth a warning each; our own bugs are printed.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._uvicorn = Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=max(1, round(config.keep_alive_timeout)),
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._uvicorn.load()

    @property
    def url(self) -> str:
        """Where the server is reached."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    async def open(self) -> None:
        """Bind and accept. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: GuardedProtocol(self._uvicorn, self._state, self._config),
            host=self._config.host,
            port=self._config.port,
            backlog=1024,
        )

    async def close(self) -> None:
        """Stop accepting, let answers that are written go out, then end all connections."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._state.connections:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            for connection in list(self._state.connections):
                connection.transport.abort()
