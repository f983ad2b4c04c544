"""Looks at running servers, read-only: their metrics pages twice or more, and what they tell.

Only what grew between two readings counts, never a lifetime's total. A counter that fell means a
restart: then nothing that was counted is taken. Not here: what follows (evidence.py).
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.window import Setting, Window
from sixfold.instrument.backends import backend
from sixfold.instrument.backends.aliases import GAUGES, HISTOGRAMS, TOKEN_HISTOGRAMS
from sixfold.instrument.backends.base import version_words
from sixfold.instrument.backends.fetch import fetch
from sixfold.instrument.backends.scrape import Scrape, canonical, histogram, parse
from sixfold.instrument.backends.spec import Request
from sixfold.instrument.telemetry.engine import HINT, family
from sixfold.instrument.telemetry.histograms import gained

TIMEOUT = 3.0
PERIOD = 1.0
LEAST_READINGS = 2
MAX_FAILED = 0.34
"""Of the readings; with more of them missing a window is not sound."""
ASK = {
    "llamacpp": ("/props", ("total_slots", "n_ctx")),
    "sglang": ("/get_server_info", ("max_running_requests", "chunked_prefill_size",
                                    "disable_radix_cache", "mem_fraction_static")),
}  # fmt: skip
"""Where engines tell settings that their metrics do not: path, and the keys that are taken."""
TELLING = {
    "sixfold": ("sixfold:config_info",),
    "vllm": ("vllm:cache_config_info",),
}
"""Metrics whose labels are settings."""


class Reading(msgspec.Struct, frozen=True):
    """One page, read at a monotonic time."""

    at: float
    page: Scrape


class Replica:
    """One server that is looked at."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        if not re.match(r"https?://[^/\s]+", self.url):
            raise ConfigError(f"{url!r} is no URL", "such as http://127.0.0.1:8000")
        self._headers = dict(headers or {})
        self.readings: list[Reading] = []
        self.failed: list[str] = []

    def read(self) -> None:
        """Take one reading; what goes wrong is kept, never raised."""
        try:
            status, body = self._get("/metrics")
        except (OSError, ValueError) as error:
            self.failed.append(f"{self.url}/metrics does not answer: {error}")
            return
        if status != 200:
            self.failed.append(f"{self.url}/metrics answers {status}: {HINT}")
            return
        self.readings.append(Reading(time.monotonic(), parse(body)))

    def window(self) -> Window:
        """All readings as one window; what is unsound is left out, and said."""
        if not self.readings:
            why = self.failed[-1] if self.failed else "it was not read"
            return Window(name=self.url, notes=(why,))
        known = family(self.readings[-1].page)
        if known is None:
            return Window(name=self.url, notes=(_unknown_page(self.readings[-1].page),))
        engine, aliases = known
        version, settings, notes = self._told(engine)
        window = window_of(self.url, engine, aliases, self.readings)
        total = len(self.readings) + len(self.failed)
        if len(self.failed) > MAX_FAILED * total:
            lost = f"{len(self.failed)} of {total} readings failed: {self.failed[-1]}"
            return Window(name=self.url, engine=engine, settings=settings, notes=(lost,))
        return msgspec.structs.replace(
            window, version=version, settings=settings, notes=(*window.notes, *notes)
        )

    def _get(self, path: str) -> tuple[int, bytes]:
        return fetch(f"{self.url}{path}", Request("GET", path), TIMEOUT, self._headers)

    def _told(self, engine: str) -> tuple[str, dict[str, Setting], tuple[str, ...]]:
        """The version, the settings, and what is to be said of them."""
        settings = labels(self.readings[-1].page, engine)
        if engine in ASK:
            path, keys = ASK[engine]
            answer = self._json(path)
            settings |= {key: answer[key] for key in keys
                         if isinstance(answer.get(key), bool | int | float | str)}  # fmt: skip
        kind = backend(engine)
        version = ""
        if kind.version is not None:
            told = self._json(kind.version[0]).get(kind.version[1])
            version = str(told) if isinstance(told, str) else ""
        words = version_words(kind, version)
        return version, settings, (words,) if words else ()

    def _json(self, path: str) -> dict[str, Any]:
        try:
            status, body = self._get(path)
            answer = msgspec.json.decode(body) if status == 200 else {}
        except (OSError, ValueError, msgspec.DecodeError):
            return {}
        return answer if isinstance(answer, dict) else {}


def look(
    replicas: Sequence[Replica],
    seconds: float,
    tick: Callable[[float], None] = lambda _left: None,
) -> tuple[Window, ...]:
    """Read all of them each second for that long; a window each."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(max(1, len(replicas))) as pool:
        while True:
            began = time.monotonic()
            list(pool.map(Replica.read, replicas))
            left = end - time.monotonic()
            tick(max(0.0, left))
            enough = all(len(r.readings) + len(r.failed) >= LEAST_READINGS for r in replicas)
            if left <= 0 and enough:
                break
            time.sleep(max(0.0, PERIOD - (time.monotonic() - began)))
        return tuple(pool.map(Replica.window, replicas))


def window_of(
    name: str, engine: str, aliases: Mapping[str, tuple[str, ...]], readings: Sequence[Reading]
) -> Window:
    """Readings of one server as a window: growth, gauges, histograms."""
    pages = [canonical(reading.page, aliases) for reading in readings]
    gauges = {
        gauge: values
        for gauge in GAUGES
        if (values := [page[gauge] for page in pages if gauge in page])
    }
    counters = [{k: v for k, v in page.items() if k not in GAUGES} for page in pages]
    fallen = sorted({
        name
        for before, after in pairwise(counters)
        for name in after
        if name in before and after[name] < before[name]
    })  # fmt: skip
    notes = _page_notes(readings[-1].page)
    if fallen:
        restarted = f"{fallen[0]} fell: the server was restarted, what it counted is left out"
        return Window(name=name, engine=engine, gauges=gauges, notes=(*notes, restarted))
    first, last = counters[0], counters[-1]
    return Window(
        name=name,
        engine=engine,
        model=_model(readings[-1].page),
        seconds=readings[-1].at - readings[0].at,
        gauges=gauges,
        grown={name: last[name] - first[name] for name in last if name in first},
        histograms=_histograms([reading.page for reading in readings]),
        notes=notes,
    )


def _histograms(pages: Sequence[Scrape]) -> dict[str, Any]:
    found = {}
    for short, candidates in (HISTOGRAMS | TOKEN_HISTOGRAMS).items():
        readings = [
            next(filter(None, (histogram(page, each) for each in candidates)), None)
            for page in pages
        ]
        if (grown := gained(readings)) is not None:
            found[short] = grown
    return found


def labels(page: Scrape, engine: str) -> dict[str, Setting]:
    """Settings that a page tells in the labels of a metric."""
    found: dict[str, Setting] = {}
    for name in TELLING.get(engine, ()):
        for sample in page.samples.get(name, ()):
            found |= {key: _plain(value) for key, value in sample.labels.items() if value}
    return found


def _plain(text: str) -> Setting:
    if text in ("True", "False"):
        return text == "True"
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _model(page: Scrape) -> str:
    names = {
        sample.labels["model_name"]
        for samples in page.samples.values()
        for sample in samples
        if "model_name" in sample.labels
    }
    return names.pop() if len(names) == 1 else ""


def _page_notes(page: Scrape) -> tuple[str, ...]:
    notes = []
    if page.truncated:
        notes.append("the metrics page is too large: its end was not read")
    if page.malformed:
        notes.append(f"{page.malformed} lines of the metrics page could not be read")
    return tuple(notes)


def _unknown_page(page: Scrape) -> str:
    names = sorted(page.samples)
    shown = f"it begins with {names[0]}" if names else "it holds no metric"
    return f"the metrics page is no engine's that is known ({shown}): {HINT}"
