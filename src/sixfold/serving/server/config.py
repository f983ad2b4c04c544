"""The server's configuration, and the one call that `sixfold serve` makes.

Not here: anything about the model or the engine's steps (core/config.py). Imports stay light,
so that the command line can read the fields without loading the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sixfold.core.addresses import is_loopback
from sixfold.core.errors import ConfigError

if TYPE_CHECKING:
    from sixfold.core.config import EngineConfig
    from sixfold.serving.server.launch import EngineLaunch


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the HTTP server listens, whom it lets in, and how long it waits. Times are seconds."""

    host: str = "127.0.0.1"
    """Address to bind. Anything but a loopback address needs an API key or insecure_bind."""
    port: int = 8000
    """TCP port; 0 takes a free one (it is printed)."""
    api_keys: tuple[str, ...] = ()
    """When set, every route but /health and /ready wants `Authorization: Bearer <key>`."""
    insecure_bind: bool = False
    """Bind a non-loopback address without an API key: anybody who reaches it may use it."""
    served_model_name: str = ""
    """The model's name in the API; empty takes the name given to serve."""
    max_queued_requests: int = 256
    """Sequences that may wait beyond max_num_seqs running ones; more are answered 503."""
    max_connections: int = 1024
    """Open TCP connections; more are answered 503 and closed."""
    max_body_bytes: int = 4 << 20
    """Largest request body; more is answered 413."""
    header_timeout: float = 10.0
    """A connection that has not sent its complete headers by then is closed."""
    body_timeout: float = 30.0
    """A body that is not complete by then is answered 408."""
    keep_alive_timeout: float = 30.0
    """An idle connection is closed after this."""
    write_timeout: float = 20.0
    """A client that has stopped reading for this long is cut off and its request cancelled."""
    request_timeout: float = 0.0
    """Deadline of requests that name none (`timeout`, X-Request-Timeout); 0 means none."""
    drain_timeout: float = 30.0
    """On SIGTERM, how long requests in flight may take to finish."""
    enable_batches: bool = True
    """Serve /v1/files and /v1/batches. Batches run in the background, behind all other requests."""
    batch_dir: str = ""
    """Where files and batches are kept, for one server at a time; empty takes batches in
    $SIXFOLD_HOME or ~/.cache/sixfold."""
    max_file_mb: int = 512
    """Largest file that may be uploaded, in MiB."""
    upload_timeout: float = 600.0
    """A file that is not complete by then is answered 408."""
    engine_start_timeout: float = 600.0
    """An engine that has not loaded its model by then is killed."""
    engine_hang_timeout: float = 60.0
    """An engine that has not answered for this long is killed and restarted."""

    def __post_init__(self) -> None:
        self._check_ranges()
        if any(not key or not key.isascii() or not key.isprintable() for key in self.api_keys):
            raise ConfigError("api_keys holds an empty or unprintable key", "use ASCII text")
        if not (self.api_keys or self.insecure_bind or is_loopback(self.host)):
            raise ConfigError(
                f"refusing to bind {self.host} without an API key",
                "set an API key, bind 127.0.0.1, or pass insecure_bind",
            )

    def _check_ranges(self) -> None:
        for name, low, high in (
            ("port", 0, 65535),
            ("max_queued_requests", 0, 1 << 20),
            ("max_connections", 1, 1 << 20),
            ("max_body_bytes", 1024, 48 << 20),
            ("header_timeout", 0.1, 3600),
            ("body_timeout", 0.1, 3600),
            ("keep_alive_timeout", 0.1, 3600),
            ("write_timeout", 0.1, 3600),
            ("request_timeout", 0, 86400),
            ("drain_timeout", 0, 86400),
            ("max_file_mb", 1, 1 << 20),
            ("upload_timeout", 1, 86400),
            ("engine_start_timeout", 1, 86400),
            ("engine_hang_timeout", 0.5, 86400),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}, but must be in [{low}, {high}]")


def run_server(
    engine_config: EngineConfig,
    server_config: ServerConfig,
    launch: EngineLaunch | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0 after a clean drain.

    `launch` says how the engine process is started and where the tokenizer comes from; tests
    pass their own. Raises SixfoldError where the engine can't start (no model, no memory).
    """
    from sixfold.serving.server.run import serve

    return serve(engine_config, server_config, launch)
