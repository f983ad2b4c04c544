"""An engine's own metrics beside a load: its page each second, under our canonical names.

Which engine it is follows from the prefixes on the page. During the load only the lines that
matter are kept; they are read when it is over. Not here: the format and the names (backends).
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import urlsplit

from sixfold.instrument.backends.aliases import (
    GAUGES,
    HISTOGRAMS,
    LLAMACPP,
    POOL_LABELS,
    SGLANG,
    VLLM,
)
from sixfold.instrument.backends.fetch import fetch
from sixfold.instrument.backends.scrape import Scrape, canonical, delta, histogram, parse
from sixfold.instrument.backends.spec import Request
from sixfold.instrument.telemetry.histograms import gained, statistics
from sixfold.instrument.telemetry.series import Series, known

TIMEOUT = 2.0
FAMILIES: dict[str, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    "sixfold:": ("sixfold", VLLM),
    "vllm:": ("vllm", VLLM),
    "sglang:": ("sglang", SGLANG),
    "llamacpp:": ("llamacpp", LLAMACPP),
}
"""Prefix on the page -> engine and its aliases. Ours has vLLM's names beside its own."""
GAUGE_NAMES = {
    "num_requests_running": "engine_requests_running_{}_count",
    "num_requests_waiting": "engine_requests_waiting_{}_count",
    "num_requests_swapped": "engine_requests_swapped_{}_count",
    "num_grammar_waiting": "engine_grammar_waiting_{}_count",
    "kv_cache_usage": "engine_kv_cache_usage_{}_fraction",
    "kv_pool_tokens": "engine_kv_pool_{}_tokens",
    "prefix_hit_rate": "engine_prefix_hit_rate_{}_fraction",
    "prompt_rate": "engine_prompt_rate_{}_tokens_per_second",
    "generation_rate": "engine_generation_rate_{}_tokens_per_second",
}
"""With the mean and the peak over the run."""
HINT = "start with --metrics (llama.cpp) or --enable-metrics (SGLang)"


def family(page: Scrape) -> tuple[str, Mapping[str, tuple[str, ...]]] | None:
    """The engine's name and aliases by the prefixes of a page's metrics; None: not one we know."""
    for prefix, found in FAMILIES.items():
        if any(name.startswith(prefix) for name in page.samples):
            return found
    return None


class EngineProbe:
    """Reads `url`/metrics."""

    def __init__(self, url: str) -> None:
        self.notes: list[str] = []
        self.engine = ""
        """Whose metrics they are; empty while that is not known."""
        base = url.rstrip("/").removesuffix("/v1")
        self.url = f"{base}/metrics"
        self._aliases: Mapping[str, tuple[str, ...]] = {}
        self._wanted: tuple[bytes, ...] = ()
        self._pages: list[bytes] = []
        self._failed = 0

    def read(self) -> None:
        """Fetch the page and keep its lines; the first reading finds out whose it is."""
        if self.notes:
            return
        page = self._fetch()
        if page is None:
            return
        if not self._pages:
            self._recognise(page)
        if not self._wanted:
            return
        lines = [line for line in page.split(b"\n") if line.startswith(self._wanted)]
        self._pages.append(b"\n".join(lines))

    def _fetch(self) -> bytes | None:
        try:
            request = Request("GET", urlsplit(self.url).path)
            status, page = fetch(self.url, request, TIMEOUT)
        except (OSError, ValueError) as error:
            self._missed(f"engine metrics: {self.url} does not answer: {error}")
            return None
        if status != 200:
            self._missed(f"engine metrics: not found at {self.url} ({status}): {HINT}")
        return page if status == 200 else None

    def _missed(self, note: str) -> None:
        """At first it is a page that is not there; later, one that a busy server was late with."""
        self._failed += 1
        if not self._pages:
            self.notes.append(note)

    def _recognise(self, page: bytes) -> None:
        found = family(parse(page))
        if found is None:
            self.notes.append(f"engine metrics: {self.url} is no engine's that is known")
            return
        self.engine, self._aliases = found
        tables = (*self._aliases.values(), *HISTOGRAMS.values(), POOL_LABELS[:1])
        names = {alias.partition("{")[0] for candidates in tables for alias in candidates}
        self._wanted = tuple(sorted(name.encode() for name in names))

    def summary(self) -> dict[str, float]:
        """Means and peaks of gauges, growth of counters, and the shares that follow from them."""
        if not self._aliases:
            return {}
        pages = [parse(page) for page in self._pages]
        readings = [canonical(page, self._aliases) | _pool(page) for page in pages]
        gauges = Series()
        # The first and the last reading are from before and after the load.
        for reading in readings[1:-1] or readings:
            for name in GAUGES:
                if name in reading:
                    gauges.add(name, reading[name])
        return {
            **_gauges(gauges),
            **_rise(gauges),
            **_counters(readings),
            **_histograms(pages),
            "engine_scrapes_count": float(len(readings)),
            "engine_scrapes_failed_count": float(self._failed),
        }


def _gauges(gauges: Series) -> dict[str, float]:
    return known(
        **{GAUGE_NAMES[name].format("mean"): gauges.mean(name) for name in GAUGES},
        **{GAUGE_NAMES[name].format("max"): gauges.peak(name) for name in GAUGES},
    )


def _rise(gauges: Series) -> dict[str, float]:
    """How much longer the queue was in the last quarter than in the first."""
    grown = gauges.rise("num_requests_waiting")
    return known(engine_requests_waiting_rise_count=grown)


def _pool(page: Scrape) -> dict[str, float]:
    """The KV cache's tokens where a metric's labels tell them, summed over replicas."""
    name, whole, factors = POOL_LABELS
    total = 0.0
    for sample in page.samples.get(name, ()):
        told = [whole] if sample.labels.get(whole, "").isdecimal() else list(factors)
        numbers = [sample.labels.get(label, "") for label in told]
        if all(number.isdecimal() for number in numbers):
            total += math.prod(map(float, numbers))
    return {"kv_pool_tokens": total} if total else {}


def _histograms(pages: list[Scrape]) -> dict[str, float]:
    """Seconds by the server's own clock: "engine_queue_p95_seconds"."""
    values: dict[str, float] = {}
    for name, candidates in HISTOGRAMS.items():
        readings = [
            next(filter(None, (histogram(page, each) for each in candidates)), None)
            for page in pages
        ]
        found = gained(readings)
        if found is not None:
            told = statistics(found).items()
            values |= {f"engine_{name}_{stat}_seconds": value for stat, value in told}
    return values


def _counters(readings: list[dict[str, float]]) -> dict[str, float]:
    """Growth, summed over pairs of readings so that a restart between two costs one pair only."""
    grown: dict[str, float] = {}
    for before, after in pairwise(readings):
        for name, value in delta(before, after).items():
            if name not in GAUGES:
                grown[name] = grown.get(name, 0.0) + value
    return known(
        engine_preemptions_count=grown.get("num_preemptions"),
        engine_rejections_count=grown.get("rejections"),
        engine_prompt_tokens_computed_count=grown.get("prompt_tokens_computed"),
        engine_prompt_tokens_count=grown.get("prompt_tokens"),
        engine_prompt_work_seconds=grown.get("prompt_seconds"),
        engine_generation_work_seconds=grown.get("generation_seconds"),
        engine_generated_tokens_count=grown.get("generation_tokens"),
        engine_prefix_hit_fraction=_share(grown, "prefix_cache_hits", "prefix_cache_queries"),
        engine_acceptance_fraction=_share(grown, "spec_accepted", "spec_drafted"),
    )


def _share(grown: Mapping[str, float], part: str, whole: str) -> float | None:
    total = grown.get(whole, 0.0)
    return grown[part] / total if part in grown and total > 0 else None
