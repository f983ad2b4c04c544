"""Prometheus' HTTP API, asked with bounds on time and size: its clock, names, values.

An answer is hostile until it is decoded: a wrong type, an unknown shape or a page of HTML is an
error in one line. Not here: what to ask (promql.py), what it means (prometheus.py).
"""

import math
import os
import time
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.history.past import Grid, duration, plain
from sixfold.instrument.backends.fetch import MAX_BYTES, fetch
from sixfold.instrument.backends.spec import Request

TIMEOUT = 20.0
"""Seconds for one whole answer."""
BUDGET = 180.0
"""Seconds for all answers of one look."""
POINTS = 1000
"""Of a series in one answer; Prometheus itself refuses more than 11,000."""
LEAST_POINTS = 16
HINT = "give the server's own URL, such as http://127.0.0.1:9090"
NARROWER = "take a shorter --window, or fewer series: --match 'job=\"...\"'"
_T = TypeVar("_T")


class RefusalError(ConfigError):
    """The server answered, but with no data: one query is lost, not the next."""


class OversizeError(RefusalError):
    """The answer is over the bound."""


class Row(msgspec.Struct, frozen=True):
    """One series of an answer."""

    labels: dict[str, str]
    values: tuple[tuple[float, float], ...]
    """Times and values; what is no number is left out."""


class _Envelope(msgspec.Struct):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    errorType: str = ""
    error: str = ""
    warnings: list[str] = []


class _One(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Many(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Vector(msgspec.Struct):
    result: list[_One]


class _Matrix(msgspec.Struct):
    result: list[_Many]


class _Scalar(msgspec.Struct):
    result: tuple[float, str]


class Api:
    """One server. Raises ConfigError for a URL or token that can't be used."""

    def __init__(self, url: str, token_env: str = "") -> None:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ConfigError("the address of Prometheus is no URL", HINT) from None
        if "@" in parts.netloc:
            raise ConfigError("a URL with a password in it", "name a variable: --token-env NAME")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{plain(url)} is no http or https URL", HINT)
        if parts.query or parts.fragment or " " in url or not (url.isascii() and url.isprintable()):
            raise ConfigError("the address of Prometheus is more than a base URL", HINT)
        self.url = url.rstrip("/").removesuffix("/api/v1")
        self._path = urlsplit(self.url).path + "/api/v1"
        self._token = _token(token_env)
        self._deadline = math.inf
        self.warnings: list[str] = []
        self.lost = 0
        """Values that were no numbers."""

    @property
    def exposed(self) -> bool:
        """The token goes over the network unencrypted."""
        parts = urlsplit(self.url)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        return bool(self._token) and parts.scheme == "http" and not local

    def start(self) -> None:
        """Begin a look: BUDGET seconds from now."""
        self._deadline = time.monotonic() + BUDGET
        self.warnings, self.lost = [], 0

    def now(self) -> float:
        """Seconds since the epoch by the server's clock."""
        answer = self._get("/query", _Scalar, query="time()")
        found = _number(answer.result[1])
        if found is None or not 0 < found < 1e11:
            raise RefusalError(f"{self.url} does not tell the time", HINT)
        return found

    def names(self, selector: str, start: int, end: int) -> frozenset[str]:
        """Names of metrics within that time; an empty selector takes all."""
        chosen = {"match[]": selector} if selector else {}
        path = "/label/__name__/values"
        return frozenset(self._get(path, list[str], **chosen, start=start, end=end))

    def instant(self, query: str, at: int) -> list[Row]:
        """The values of a query at one time."""
        answer = self._get("/query", _Vector, query=query, time=at)
        return [self._row(one.metric, [one.value]) for one in answer.result]

    def series(self, query: str, grid: Grid) -> list[Row]:
        """The values of a query at each step, asked in slices: a series may have several rows."""
        return [row for piece in grid.pieces(POINTS) for row in self._slice(query, piece)]

    def _slice(self, query: str, grid: Grid) -> list[Row]:
        """Of an answer that is too large, the halves."""
        when = {"start": grid.first, "end": grid.end, "step": grid.step}
        try:
            answer = self._get("/query_range", _Matrix, query=query, **when)
        except OversizeError:
            if grid.count < 2 * LEAST_POINTS:
                raise
            halves = grid.pieces((grid.count + 1) // 2)
            return [row for half in halves for row in self._slice(query, half)]
        return [self._row(one.metric, one.values) for one in answer.result]

    def _row(self, labels: dict[str, str], pairs: list[tuple[float, str]]) -> Row:
        known = [(at, number) for at, text in pairs if (number := _number(text)) is not None]
        self.lost += len(pairs) - len(known)
        return Row(labels, tuple(known))

    def _get(self, path: str, kind: type[_T], **parameters: object) -> _T:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ConfigError(f"{self.url} took more than {duration(BUDGET)} in all", NARROWER)
        request = Request("GET", f"{self._path}{path}?{urlencode(parameters)}")
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        within = min(TIMEOUT, left)
        try:
            status, body = fetch(self.url, request, within, headers, within=within)
        except (OSError, ValueError) as error:
            text = f"{self.url} does not answer: {self._shown(error)}"
            raise ConfigError(text, "is it running, and reachable from here?") from None
        return self._decoded(kind, self._data(status, body))

    def _data(self, status: int, body: bytes) -> msgspec.Raw:
        if status in (401, 403):
            hint = "name the variable that holds its bearer token: --token-env NAME"
            raise ConfigError(f"{self.url} wants to know who asks ({status})", hint)
        if 300 <= status < 400:
            raise ConfigError(f"{self.url} redirects ({status})", "give the URL it leads to")
        if len(body) >= MAX_BYTES:
            text = f"{self.url} answers with more than {MAX_BYTES >> 20} MiB"
            raise OversizeError(text, NARROWER)
        try:
            envelope = msgspec.json.decode(body, type=_Envelope)
        except (msgspec.DecodeError, RecursionError):
            begins = self._shown(body[:200].decode(errors="replace"))[:40]
            text = f"{self.url} answers no JSON of Prometheus ({status}): {begins!r}"
            raise RefusalError(text, HINT) from None
        if envelope.status != "success" or status // 100 != 2:
            why = self._shown(f"{envelope.errorType} {envelope.error}") or str(status)
            raise RefusalError(f"{self.url} refuses a query: {why}", NARROWER)
        self.warnings += [self._shown(text) for text in envelope.warnings[:3]]
        return envelope.data

    def _decoded(self, kind: type[_T], data: msgspec.Raw) -> _T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            text = f"{self.url} answers in a form that is not Prometheus': {self._shown(error)}"
            raise RefusalError(text, HINT) from None

    def _shown(self, text: object) -> str:
        """Of what came from outside, without the token, should it be told back."""
        words = str(text)
        return plain(words.replace(self._token, "***") if self._token else words)


def _token(name: str) -> str:
    """The variable's value. Its name is never told back: it may be the token by mistake."""
    if not name:
        return ""
    token = os.environ.get(name, "").strip()
    if not token:
        raise ConfigError("the variable that --token-env names is not set", "export it first")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("the variable that --token-env names holds no token", "one ASCII word")
    return token


def _number(text: Any) -> float | None:
    """None for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
