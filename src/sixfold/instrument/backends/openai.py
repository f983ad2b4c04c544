"""A server that already runs and speaks OpenAI's API: nothing is started or stopped.

Its URL is the spec's `executable`, and must be loopback: forward a port to reach further.
"""

from urllib.parse import urlsplit

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.aliases import ANY
from sixfold.instrument.backends.spec import EngineKind, EngineSpec

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def url_of(spec: EngineSpec) -> str:
    """The server's base URL, without a path. Raises ConfigError unless it is http on loopback."""
    try:
        parts = urlsplit(spec.executable)
        port = parts.port or spec.port
    except ValueError as error:
        raise ConfigError(f"{spec.executable!r} is no URL: {error}", "http://127.0.0.1:PORT") from (
            error
        )
    if parts.scheme != "http" or parts.hostname not in LOOPBACK or not port:
        raise ConfigError(
            f"{spec.executable!r} is not http on a loopback port",
            "use http://127.0.0.1:PORT; for another machine: ssh -L PORT:127.0.0.1:PORT HOST",
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http://{host}:{port}"


def _argv(spec: EngineSpec) -> list[str]:
    if spec.flags:
        raise ConfigError("flags of a server that runs can't be set", "leave them out")
    url_of(spec)
    return []


BACKEND = EngineKind(
    name="openai",
    argv=_argv,
    ready_path="/v1/models",
    aliases=ANY,
    install="start the server, and give its URL as executable",
)
