"""Streaming requests to an OpenAI-compatible server, each answered by a record and no exception.

Not here: bytes (http.py, framing.py), what a stream says (events.py), when to send (run.py).
"""

import ssl
import time
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from sixfold.core.addresses import is_loopback
from sixfold.core.errors import ConfigError
from sixfold.core.metrics import RequestTrace
from sixfold.instrument.loadgen.events import Answer, error_message, read_answer
from sixfold.instrument.loadgen.framing import Response
from sixfold.instrument.loadgen.http import Pool

CUT = "the stream was cut"


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server and how it is asked. Raises ConfigError for what can't be one."""

    url: str
    """Base, with or without /v1: http://127.0.0.1:8000."""
    model: str = ""
    """Left out of requests where empty."""
    chat: bool = False
    """/v1/chat/completions rather than /v1/completions."""
    api_key: str = ""
    extra: dict[str, Any] = {}
    """More fields of each request's body: temperature, ignore_eos, min_tokens ..."""
    connect_timeout: float = 10.0
    """Seconds."""
    timeout: float = 600.0
    """Seconds for a whole request, connecting included."""

    def __post_init__(self) -> None:
        _parts(self.url)
        if not (self.connect_timeout > 0 and self.timeout > 0):
            raise ConfigError("a timeout must be above 0 seconds", "leave it out for the default")
        if not self.api_key.isascii() or not self.api_key.isprintable():
            raise ConfigError("the API key holds characters no header may hold", "check for a typo")

    def __repr__(self) -> str:
        return f"Target(url={self.url!r}, model={self.model!r}, chat={self.chat})"

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(_parts(self.url).hostname or "")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One request's outcome, whatever it was: `error` is empty where it succeeded."""

    trace: RequestTrace
    answer: Answer
    error: str = ""


class Client:
    """Sends requests to one target over kept-alive connections. Use within one event loop."""

    def __init__(self, target: Target) -> None:
        url = _parts(target.url)
        tls = ssl.create_default_context() if url.scheme == "https" else None
        port = url.port or (443 if tls else 80)
        self._pool = Pool(url.hostname or "", port, tls, target.connect_timeout)
        self._timeout = target.timeout
        self._fields: dict[str, Any] = {"model": target.model} if target.model else {}
        self._fields |= {"stream": True, "stream_options": {"include_usage": True}} | target.extra
        self._head = _head(target, url)
        self._encode = msgspec.json.Encoder().encode

    async def send(self, fields: dict[str, Any]) -> Reply:
        """Send a body of the target's fields and `fields`; its reply, at the end of the stream."""
        start = time.monotonic()
        try:
            body = self._encode(self._fields | fields)
            payload = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
            response = await self._pool.exchange(payload, self._timeout)
        except (OSError, UnicodeError, ssl.CertificateError) as error:
            return _failed(start, f"{error or type(error).__name__}")
        return _reply(start, response)

    def close(self) -> None:
        """End the connections that wait."""
        self._pool.close()


def _parts(url: str) -> SplitResult:
    hint = "write it as http://127.0.0.1:8000"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no URL: {error}", hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is no http or https URL", hint)
    if parts.query or parts.fragment or parts.username or not url.isascii() or " " in url:
        raise ConfigError(f"{url!r} is more than a base URL", hint)
    return parts


def _head(target: Target, url: SplitResult) -> bytes:
    """The request's header up to the number of its Content-Length."""
    base = url.path.rstrip("/").removesuffix("/v1")
    path = f"{base}/v1/{'chat/' if target.chat else ''}completions"
    lines = [f"POST {path} HTTP/1.1", f"Host: {url.netloc}", "Content-Type: application/json"]
    lines += ["Accept: text/event-stream"]
    lines += [f"Authorization: Bearer {target.api_key}"] if target.api_key else []
    return "\r\n".join([*lines, "Content-Length: "]).encode("ascii")


def _failed(start: float, error: str) -> Reply:
    trace = RequestTrace(arrival=start, end=time.monotonic(), ok=False)
    return Reply(trace=trace, answer=Answer(), error=error)


def _reply(start: float, response: Response) -> Reply:
    end = response.times[-1] if response.complete and response.times else time.monotonic()
    if response.status not in (0, 200):
        message = error_message(b"".join(response.parts))
        return _failed(start, f"the server answered {response.status}: {message}")
    answer = read_answer(response.parts, response.times)
    error = _error(response, answer)
    trace = RequestTrace(
        arrival=start,
        token_times=answer.token_times,
        end=end,
        num_prompt_tokens=answer.num_prompt_tokens,
        ok=not error,
    )
    return Reply(trace=trace, answer=answer, error=error)


def _error(response: Response, answer: Answer) -> str:
    """Why a response with status 200, or none, is no success; empty if it is one."""
    if response.error or answer.error:
        return response.error or answer.error
    if not response.started:
        return "the server closed the connection without an answer"
    if answer.ended:
        return ""
    if response.complete and response.parts and not answer.token_times:
        body = b"".join(response.parts)
        if b"data:" not in body:
            return f"the answer is no event stream: {error_message(body)}"
    return CUT
