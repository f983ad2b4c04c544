"""Asks servers the fixed prompts: the baseline once, then each lossy configuration before it wins.

Greedy, one request at a time, over /v1/completions. Not here: scores and thresholds (quality.py),
starting servers (runner.py).
"""

import http.client
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sixfold.core.errors import SixfoldError
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.tuner.quality import (
    PROMPTS,
    TOKENS,
    TOP,
    Heard,
    Quality,
    as_telemetry,
    score,
    unknown,
)
from sixfold.instrument.tuner.spaces import plain_name, precision_flags

SECONDS = 60.0
"""The longest that one answer may take."""
MAX_BYTES = 1 << 20

Ask = Callable[[str, str], Sequence[Heard]]
"""Answers of a server, by URL and model."""


class QualityCheck:
    """Compares lossy configurations with the baseline; each of them is asked once."""

    def __init__(self, baseline: EngineSpec, ask: Ask | None = None) -> None:
        self.baseline = baseline
        self._ask = ask or ask_all
        self._heard: Sequence[Heard] | None = None
        self._missing = ""
        self._known: dict[str, Quality] = {}

    def needs_baseline(self, spec: EngineSpec) -> bool:
        """Whether the baseline must be asked before this configuration can be judged."""
        return bool(self.lossy(spec)) and self._heard is None and not self._missing

    def lossy(self, spec: EngineSpec) -> dict[str, Scalar]:
        """The configuration's lossy flags that differ from the baseline's."""
        ours, theirs = _plain(self.baseline), _plain(spec)
        names = [n for n in precision_flags(spec.engine) if n in theirs]
        return {n: theirs[n] for n in names if theirs[n] != ours.get(n)}

    def no_baseline(self, why: str) -> None:
        """The baseline can't be asked: then nothing lossy passes."""
        self._missing = why

    def hear_baseline(self, url: str, model: str) -> None:
        """Ask the baseline's server, if it was not asked before."""
        if self._heard is None:
            try:
                self._heard = self._ask(url, model)
            except SixfoldError as error:
                self.no_baseline(f"the baseline: {error}")

    def look(self, spec: EngineSpec, url: str, model: str) -> dict[str, Any]:
        """What a point of this configuration says of its quality; nothing if it is not lossy."""
        lossy = self.lossy(spec)
        if not lossy:
            return {}
        name = repr(sorted(lossy.items()))
        if name not in self._known:
            if self._heard is None:
                return as_telemetry(unknown(self._missing or "the baseline was not asked"))
            try:
                self._known[name] = score(self._heard, self._ask(url, model))
            except SixfoldError as error:
                return as_telemetry(unknown(str(error)))
        return as_telemetry(self._known[name])


def _plain(spec: EngineSpec) -> dict[str, Scalar]:
    return {plain_name(name): value for name, value in spec.flags.items()}


def ask_all(url: str, model: str) -> list[Heard]:
    """Answers to all prompts; with probabilities where the server tells them.

    Raises SixfoldError if a prompt is not answered.
    """
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": TOP,
    }
    heard = []
    for prompt in PROMPTS:
        status, answer = _post(url, body | {"prompt": prompt})
        if status == 400 and "logprobs" in body:
            del body["logprobs"]  # a server that tells none
            status, answer = _post(url, body | {"prompt": prompt})
        if status != 200:
            raise SixfoldError(f"{url} answers {status} to a prompt of the quality check")
        heard.append(read_answer(answer))
    return heard


def read_answer(answer: bytes) -> Heard:
    """A completion's tokens and first-token probabilities, in OpenAI's older or newer form.

    Raises SixfoldError for what is no completion.
    """
    try:
        choice = msgspec.json.decode(answer)["choices"][0]
        text, told = str(choice["text"]), choice.get("logprobs") or {}
        if told.get("content"):
            rows = told["content"]
            top = {str(t["token"]): float(t["logprob"]) for t in rows[0].get("top_logprobs", ())}
            return Heard(tuple(str(row["token"]) for row in rows), top)
        if told.get("tokens"):
            top = (told.get("top_logprobs") or [None])[0] or {}
            named = {str(token): float(value) for token, value in top.items()}
            return Heard(tuple(map(str, told["tokens"])), named)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise SixfoldError(f"an answer is no completion: {error!r}") from error
    return Heard(tuple(text.split()))


def _post(url: str, body: dict[str, Any]) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", msgspec.json.encode(body), headers)
        response = connection.getresponse()
        return response.status, response.read(MAX_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise SixfoldError(f"{url} does not answer: {error!r}") from error
    finally:
        connection.close()
