"""One HTTP request to a server: no proxies, no redirects, bounded answers.

Not here: load (loadgen/), what the answers mean.
"""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from sixfold.instrument.backends.spec import Request

MAX_BYTES = 8 << 20


def fetch(
    url: str,
    request: Request,
    timeout: float = 5.0,
    headers: Mapping[str, str] | None = None,
    within: float | None = None,
) -> tuple[int, bytes]:
    """Status and body, cut at MAX_BYTES. Raises OSError, ValueError.

    `timeout`: seconds without a sign of the server; `within`: for the whole answer, if it is given.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.connect()
        with _bounded(connection.sock, within):
            connection.request(request.method, request.path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read(MAX_BYTES)
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()


@contextlib.contextmanager
def _bounded(sock: socket.socket, seconds: float | None) -> Iterator[None]:
    """Shuts the connection when time is up: each read of a server that drips is in time."""
    if seconds is None:
        yield
        return
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(seconds, end)
    watch.daemon = True
    watch.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not late.is_set():
            raise
    finally:
        watch.cancel()
    if late.is_set():
        raise TimeoutError(f"no whole answer within {seconds:.3g} s")
