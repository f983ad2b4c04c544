"""GuideLLM: the report that holds a list of benchmarks, in its present and its earlier form.

Its time per output token includes the first token, so it has no counterpart here; its inter-token
latency is a mean per request, weighted by tokens, and becomes `tpot`. Not here: CSV and HTML.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sixfold.core.point import Point
from sixfold.instrument.store.importers.common import (
    UNKNOWN,
    Json,
    imported,
    number,
    outcome,
    plain,
    setting,
    shaped,
    spread,
    utc,
)

TOOL = "GuideLLM"
TIMES = {
    "request_latency": ("e2e", 1),
    "time_to_first_token_ms": ("ttft", 1000),
    "inter_token_latency_ms": ("tpot", 1000),
}
RATES = {
    "requests_per_second": "request_throughput",
    "prompt_tokens_per_second": "input_throughput",
    "output_tokens_per_second": "output_throughput",
    "tokens_per_second": "total_throughput",
    "request_goodput": "goodput",
}
LENGTHS = {"prompt_token_count": "isl", "output_token_count": "osl"}
PERCENTILES = {"p001": "p0.1", "p01": "p1", "p05": "p5", "p999": "p99.9"}
LOAD = {"streams": "concurrency", "max_concurrency": "concurrency", "rate": "rate"}


class GuideBenchmark(msgspec.Struct):
    """One benchmark of a report; `config` is named `args` in the earlier form."""

    metrics: dict[str, Any]
    config: dict[str, Any] = {}
    args: dict[str, Any] = {}
    worker: dict[str, Any] = {}
    request_totals: dict[str, Any] = {}
    start_time: float | None = None


class GuideReport(msgspec.Struct):
    """A report."""

    benchmarks: list[Any]
    args: dict[str, Any] = {}


def sniff(document: Json) -> bool:
    """Whether it is a report: its first benchmark has metrics of a name that only it uses."""
    found = document.get("benchmarks")
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return False
    metrics = found[0].get("metrics")
    return isinstance(metrics, dict) and "request_latency" in metrics


def points(document: Json, name: str) -> Iterator[Point]:
    """A point for each benchmark."""
    report = shaped(document, GuideReport, TOOL)
    for raw in report.benchmarks:
        yield imported(TOOL, name, raw, _fields(shaped(raw, GuideBenchmark, TOOL), report.args))


def _fields(found: GuideBenchmark, args: Json) -> Json:
    settings = found.config or found.args
    totals = found.metrics.get("request_totals")
    totals = totals if isinstance(totals, dict) else found.request_totals
    good, bad = number(totals.get("successful")), number(totals.get("errored"))
    return {
        "date": utc(found.start_time),
        "engine": UNKNOWN,
        "model": _model(found, args),
        "workload": _workload(args),
        "fingerprint": _lengths(found.metrics),
        "load": _load(settings.get("strategy")),
    } | outcome(_values(found.metrics), good, bad)


def _values(metrics: Json) -> dict[str, float]:
    values: dict[str, float] = {}
    for theirs, (ours, divisor) in TIMES.items():
        found = _successful(metrics, theirs)
        percentiles = found.get("percentiles")
        named = percentiles if isinstance(percentiles, dict) else {}
        renamed = {PERCENTILES.get(stat, stat): value for stat, value in named.items()}
        values |= spread(ours, found | renamed, divisor)
    for theirs, ours in RATES.items():
        rate = number(_successful(metrics, theirs).get("mean"))
        values |= {ours: rate} if rate is not None else {}
    return values


def _successful(metrics: Json, name: str) -> Json:
    by_status = metrics.get(name)
    found = by_status.get("successful") if isinstance(by_status, dict) else None
    return found if isinstance(found, dict) else {}


def _lengths(metrics: Json) -> Json:
    return plain({ours: _successful(metrics, n).get("mean") for n, ours in LENGTHS.items()})


def _model(found: GuideBenchmark, args: Json) -> str:
    """Wherever a version of the report puts it."""
    backends = [args.get("backend"), found.config.get("backend")]
    places = [args, *(b for b in backends if isinstance(b, dict))]
    names = [place.get("model") for place in places] + [found.worker.get("backend_model")]
    return next((n for n in names if isinstance(n, str) and n), UNKNOWN)


def _workload(args: Json) -> Json:
    data = args.get("data")
    return plain({"data": data}) if isinstance(data, str | list | dict) and data else {}


def _load(strategy: object) -> Json:
    if not isinstance(strategy, dict):
        return {}
    kind = strategy.get("type_")
    load: Json = {"arrivals": kind if isinstance(kind, str) else None}
    if kind == "synchronous":
        load["concurrency"] = 1
    known = {new: setting(strategy.get(old)) for old, new in LOAD.items() if old in strategy}
    if kind in ("constant", "poisson"):
        known.pop("concurrency", None)  # there it is only a ceiling
    return plain(load | known)
