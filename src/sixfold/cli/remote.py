"""Text from an OpenAI-compatible server, for `chat` and `complete`.

Whatever the other side does - nothing, another protocol, half an answer - is a SixfoldError.
"""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from sixfold.core.errors import SixfoldError

_TIMEOUT_SECONDS = 600
_NO_API = "is --url an OpenAI-compatible server's address, without the route?"
_HINTS = {401: "pass its key: --api-key", 403: "pass its key: --api-key", 404: _NO_API}
_BROKEN = (OSError, http.client.HTTPException)


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    """A choice of either route: `delta` of a chat, `text` of a completion."""

    delta: _Delta = msgspec.field(default_factory=_Delta)
    text: str | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_T = TypeVar("_T")


class GenerationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How `chat` and `complete` ask."""

    url: str = ""
    """Use a running server instead, such as http://127.0.0.1:8000."""
    api_key: str = ""
    """The server's key."""
    max_tokens: int = 256
    """Longest answer."""
    temperature: float = 0.7
    """0 is greedy."""
    seed: int | None = None
    """Same seed, same answer."""


class Remote:
    """Any OpenAI-compatible server."""

    def __init__(self, asked: GenerationConfig) -> None:
        self._asked = asked
        try:
            url = urlsplit(asked.url if "//" in asked.url else f"http://{asked.url}")
            self._host, self._port = url.hostname or "", url.port
        except ValueError as error:  # no such port, or no such address
            raise _no_url(asked.url, str(error)) from error
        if url.scheme not in ("http", "https") or not self._host:
            raise _no_url(asked.url, "it names no HTTP server")
        self._secure = url.scheme == "https"
        self._base = url.path.rstrip("/").removesuffix("/v1")

    def chat(self, messages: list[dict[str, str]]) -> Iterator[str]:
        """Stream the answer to a conversation."""
        for choice in self._post("/v1/chat/completions", {"messages": messages}):
            yield choice.delta.content or ""

    def complete(self, prompt: str) -> Iterator[str]:
        """Stream what follows `prompt`."""
        for choice in self._post("/v1/completions", {"prompt": prompt}):
            yield choice.text or ""

    def _post(self, path: str, body: dict[str, Any]) -> Iterator[_Choice]:
        a = self._asked
        body |= {"model": self.model(), "stream": True, "max_tokens": a.max_tokens,
                 "temperature": a.temperature, "seed": a.seed}  # fmt: skip
        done = False
        for data in self._events(path, json.dumps(body)):
            if data == b"[DONE]":
                return
            event = _decode(data, _Event, "the stream")
            if event.error is not None:
                raise SixfoldError(
                    f"the server ended the answer: {_said(event.error)}", "try again"
                )
            done = done or any(choice.finish_reason for choice in event.choices)
            yield from event.choices
        if not done:
            raise _cut("its end is missing")

    def _events(self, path: str, body: str) -> Iterator[bytes]:
        with closing(self._connection()) as connection:
            response = self._request(connection, "POST", path, body)
            try:
                for line in response:
                    if line.startswith(b"data:"):
                        yield line[5:].strip()
            except _BROKEN as error:
                raise _cut(str(error) or type(error).__name__) from error

    def model(self) -> str:
        """The first model that it serves. Raises SixfoldError."""
        with closing(self._connection()) as connection:
            response = self._request(connection, "GET", "/v1/models")
            try:
                data = response.read()
            except _BROKEN as error:
                raise _cut(str(error) or type(error).__name__) from error
        models = _decode(data, _Models, "/v1/models").data
        if not models:
            raise SixfoldError(f"{self._asked.url} serves no model", "start it with one")
        return models[0].id

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        try:
            return kind(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        except http.client.InvalidURL as error:
            raise _no_url(self._asked.url, str(error)) from error

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: str | None = None,
    ) -> http.client.HTTPResponse:
        a = self._asked
        headers = {"Content-Type": "application/json"}
        if a.api_key:
            headers["Authorization"] = f"Bearer {a.api_key}"
        try:
            connection.request(method, self._base + path, body, headers)
            response = connection.getresponse()
            if response.status == 200:
                return response
            text = response.read(2000)
        except (http.client.InvalidURL, ValueError) as error:  # a blank in it, a key of two lines
            raise _no_url(a.url, "it, or --api-key, holds what HTTP cannot send") from error
        except OSError as error:
            raise SixfoldError(
                f"no answer from {a.url}: {error}", "is the server running there?"
            ) from error
        except http.client.HTTPException as error:
            raise SixfoldError(
                f"{a.url} does not speak HTTP: {_one_line(error)}", _NO_API
            ) from error
        raise SixfoldError(
            f"the server answered {response.status}: {_said_by(text)}",
            _HINTS.get(response.status, "its own log may tell more"),
        )


def _no_url(url: str, why: str) -> SixfoldError:
    return SixfoldError(f"{url} is no URL to ask: {why}", "use http://HOST:PORT")


def _cut(why: str) -> SixfoldError:
    return SixfoldError(
        f"the server ended the answer before its end: {why}", "does it still run? ask again"
    )


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SixfoldError(f"{what} is not OpenAI's: {_one_line(error)}", _NO_API) from error


def _said_by(body: bytes) -> str:
    """What an error's body says: OpenAI's error object, or any text."""
    try:
        return _said(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return _one_line(body.decode("utf-8", "replace")) or "nothing more"


def _said(error: Any) -> str:
    return _one_line(error.get("message", error) if isinstance(error, dict) else error)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]
