"""One HTTP request to a server on loopback: no proxies, no redirects, bounded answers.

Not here: load (loadgen/), what the answers mean.
"""

import http.client
from urllib.parse import urlsplit

from sixfold.instrument.backends.spec import Request

MAX_BYTES = 8 << 20


def fetch(url: str, request: Request, timeout: float = 5.0) -> tuple[int, bytes]:
    """Status and body, cut at MAX_BYTES; seconds for `timeout`. Raises OSError."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(request.method, request.path)
        response = connection.getresponse()
        return response.status, response.read(MAX_BYTES)
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()
