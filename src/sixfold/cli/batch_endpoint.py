"""An OpenAI-compatible endpoint that answers a batch's lines. Not here: connections, the job."""

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sixfold.core.errors import ConfigError

if TYPE_CHECKING:
    from sixfold.serving.batch.lines import Task
    from sixfold.serving.batch.target import Answer


class EndpointTarget:
    """See serving/batch/target.Target. `key` goes into the Authorization header."""

    def __init__(self, url: str, key: str, places: int, timeout: float) -> None:
        """`timeout` in seconds for a whole request. Raises ConfigError for what is no URL."""
        from sixfold.instrument.loadgen.http import Pool

        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url!r} is no URL: {error}", "http://127.0.0.1:8000") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
            raise ConfigError(f"{url!r} is no http or https URL", "http://127.0.0.1:8000")
        if not key.isascii() or not key.isprintable():
            raise ConfigError("the API key holds characters no header may hold", "check it")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.places = places
        self._pool = Pool(parts.hostname, port or (443 if tls else 80), tls, 10.0)
        self._timeout = timeout
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        lines = [f"Host: {parts.netloc}", "Content-Type: application/json"]
        lines += [f"Authorization: Bearer {key}"] if key else []
        self._head = "\r\n".join(lines)

    async def answer(self, task: "Task", ticket: int) -> "Answer":
        """See Target."""
        from sixfold.serving.batch.target import Unavailable, answered

        body = task.payload()
        head = f"POST {self._base}{task.url} HTTP/1.1\r\n{self._head}\r\n"
        payload = b"%bContent-Length: %d\r\n\r\n%b" % (head.encode("ascii"), len(body), body)
        try:
            response = await self._pool.exchange(payload, self._timeout)
        except OSError as error:
            raise Unavailable(f"no answer from the endpoint: {error}", busy=True) from None
        whole = b"".join(response.parts)
        if response.status in (429, 503):
            raise Unavailable(f"the endpoint answered {response.status}", busy=True)
        if not response.complete or response.status >= 500 or response.status == 0:
            why = response.error or f"status {response.status}"
            raise Unavailable(f"the endpoint's answer broke off or failed: {why}")
        return answered(response.status, as_json(whole))

    def close(self) -> None:
        """End the connections that wait."""
        self._pool.close()


def as_json(body: bytes) -> bytes:
    """A body that can stand in a line of JSON, whatever an endpoint has sent."""
    import msgspec

    try:
        return msgspec.json.encode(msgspec.json.decode(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return msgspec.json.encode(body.decode("utf-8", "replace")[:2000])
