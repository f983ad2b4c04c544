"""One line of a batch's input: OpenAI's batch request, or a plain prompt.

`{"custom_id": ..., "method": "POST", "url": "/v1/chat/completions", "body": {...}}`, or a line that
is the body itself (`{"prompt": ...}`, `{"messages": [...]}`, `{"input": ...}`, with or without a
custom_id), or just a JSON string. Not here: reading files (reader.py), what the body means.
"""

import hashlib
from typing import Any

import msgspec

MAX_ID_BYTES = 512
URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
"""Routes that a line may name."""

_ROUTE_BY_FIELD = {"messages": URLS[0], "prompt": URLS[1], "input": URLS[2]}
_CANONICAL = msgspec.json.Encoder(order="sorted")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A line that can be run."""

    line: int
    """From 1."""
    custom_id: str
    url: str
    body: dict[str, Any]
    size: int
    """Bytes of its line in the input."""
    prefix: str
    """What its prompt begins with, as text: tasks that share it are run together."""
    digest: bytes = b""
    """Of what is asked, where the same question has the same answer; else empty."""

    def payload(self) -> bytes:
        """The body as JSON."""
        return msgspec.json.encode(self.body)


class Bad(msgspec.Struct, frozen=True, kw_only=True):
    """A line that can't be run, and why."""

    line: int
    code: str
    message: str
    size: int = 0
    custom_id: str | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What lines that don't say so themselves mean; `seeds`: the same seed gives the same text."""

    fields: dict[str, Any] = {}
    """Of what is generated."""
    model: str = ""
    seeds: bool = True
    url: str = ""
    """The only route that lines may name, where it was settled before."""


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_line(line: int, data: bytes, defaults: Defaults) -> Task | Bad:
    """What a line of the input asks for. Never raises: a bad line is an answer, too."""
    custom_id: str | None = None
    try:
        fields = _object(data)
        custom_id = _custom_id(fields.pop("custom_id", None), line)
        url, body = _request(fields, defaults)
    except _Refused as error:
        return Bad(
            line=line, code=error.code, message=str(error), size=len(data), custom_id=custom_id
        )
    named = {"model": defaults.model} if defaults.model else {}
    body = {**named, **(defaults.fields if url != URLS[2] else {}), **body}
    return Task(
        line=line, custom_id=custom_id, url=url, body=body, size=len(data), prefix=_prefix(body),
        digest=_digest(url, body) if _same_again(url, body, defaults.seeds) else b"",
    )  # fmt: skip


def _object(data: bytes) -> dict[str, Any]:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused("invalid_utf8", f"the line is not UTF-8: {error.reason}") from None
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _Refused("invalid_json", f"the line is no JSON: {str(error)[:200]}") from None
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict):
        raise _Refused("invalid_request", "the line is no JSON object")
    return value


def _custom_id(value: Any, line: int) -> str:
    if value is None:
        return f"line-{line}"
    if not isinstance(value, str) or not value:
        raise _Refused("invalid_request", "custom_id is no text")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise _Refused("invalid_request", f"custom_id is longer than {MAX_ID_BYTES} bytes")
    return value


def _request(fields: dict[str, Any], defaults: Defaults) -> tuple[str, dict[str, Any]]:
    """The route and the body: named as OpenAI's batches do, or the line itself."""
    if "body" in fields or "url" in fields:
        unknown = set(fields) - {"method", "url", "body"}
        if unknown:
            raise _Refused("invalid_request", f"unknown field {sorted(unknown)[0][:64]!r}")
        if fields.get("method", "POST") != "POST":
            raise _Refused("invalid_method", "method must be POST")
        url, body = fields.get("url"), fields.get("body")
        if not isinstance(body, dict):
            raise _Refused("invalid_request", "body is no JSON object")
    else:
        url = next((u for name, u in _ROUTE_BY_FIELD.items() if name in fields), None)
        body = fields
        if url is None:
            raise _Refused("invalid_request", "the line has neither a body nor a prompt")
    if url not in URLS:
        raise _Refused("invalid_url", f"url is {str(url)[:64]!r}; known: {', '.join(URLS)}")
    if defaults.url not in ("", url):
        raise _Refused("mismatched_url", f"url is {url}, but the batch's endpoint {defaults.url}")
    if body.get("stream"):
        raise _Refused("invalid_request", "stream has no use in a batch: leave it out")
    return url, body


def _prefix(body: dict[str, Any]) -> str:
    """The prompt's beginning as text; what is no prompt at all sorts first and fails later."""
    prompt = body.get("prompt", body.get("input", ""))
    messages = body.get("messages")
    if isinstance(messages, list):
        texts = [m.get("content") for m in messages if isinstance(m, dict)]
        return "\x00".join(t if isinstance(t, str) else repr(t) for t in texts)
    if isinstance(prompt, str):
        return prompt
    return " ".join(map(str, prompt)) if isinstance(prompt, list) else ""


def _same_again(url: str, body: dict[str, Any], seeds: bool) -> bool:
    """Whether the same body has the same answer: greedy, or seeded where seeds are kept."""
    if url == URLS[2]:
        return True
    temperature = body.get("temperature")
    greedy = isinstance(temperature, int | float) and temperature == 0
    return greedy or (seeds and isinstance(body.get("seed"), int))


def _digest(url: str, body: dict[str, Any]) -> bytes:
    try:
        canonical = _CANONICAL.encode(body)
    except UnicodeEncodeError:  # a lone surrogate: the request will be refused
        return b""
    return hashlib.blake2b(url.encode() + b"\x00" + canonical, digest_size=16).digest()


def id_digest(custom_id: str) -> bytes:
    """16 bytes that stand for a custom_id."""
    return hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
