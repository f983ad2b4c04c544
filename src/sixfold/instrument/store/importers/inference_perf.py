"""inference-perf: lifecycle metrics of a stage, or the summary of all stages. Times are seconds.

The report names no engine, model or hardware. Not here: Prometheus metrics, per-request files.
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
    shaped,
    spread,
)

TOOL = "inference-perf"
TIMES = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "inter_token_latency": "itl",
    "request_latency": "e2e",
}
RATES = {
    "input_tokens_per_sec": "input_throughput",
    "output_tokens_per_sec": "output_throughput",
    "total_tokens_per_sec": "total_throughput",
    "requests_per_sec": "request_throughput",
}


class PerfLoad(msgspec.Struct):
    """What was offered; rate and concurrency only in a stage's report."""

    count: int | None = None
    requested_rate: float | None = None
    concurrency: int | None = None


class PerfSuccesses(msgspec.Struct):
    """Requests that succeeded."""

    count: int = 0
    latency: dict[str, Any] | None = None
    throughput: dict[str, Any] | None = None
    prompt_len: dict[str, Any] | None = None
    output_len: dict[str, Any] | None = None
    slo_metrics: dict[str, Any] | None = None


class PerfFailures(msgspec.Struct):
    """Requests that failed."""

    count: int = 0


class PerfReport(msgspec.Struct):
    """A report."""

    load_summary: PerfLoad
    successes: PerfSuccesses
    failures: PerfFailures | None = None


def sniff(document: Json) -> bool:
    """Whether it is a lifecycle report."""
    return "load_summary" in document and "successes" in document


def points(document: Json, name: str) -> Iterator[Point]:
    """The one point of a report."""
    found = shaped(document, PerfReport, TOOL)
    load, good = found.load_summary, found.successes
    lengths = {"isl": good.prompt_len, "osl": good.output_len}
    failed = found.failures.count if found.failures else None
    yield imported(
        TOOL,
        name,
        document,
        {
            "date": "",
            "engine": UNKNOWN,
            "model": UNKNOWN,
            "fingerprint": plain({n: (stats or {}).get("mean") for n, stats in lengths.items()}),
            "load": plain(
                {
                    "concurrency": load.concurrency or None,
                    "rate": load.requested_rate,
                    "requests": load.count,
                }
            ),
        }
        | outcome(_values(good), good.count, failed),
    )


def _values(good: PerfSuccesses) -> dict[str, float]:
    values: dict[str, float] = {}
    for theirs, ours in TIMES.items():
        values |= spread(ours, (good.latency or {}).get(theirs))
    rates = {ours: (good.throughput or {}).get(theirs) for theirs, ours in RATES.items()}
    combined = (good.slo_metrics or {}).get("combined_slo")
    rates["goodput"] = combined.get("goodput_rate") if isinstance(combined, dict) else None
    known = {name: number(rate) for name, rate in rates.items()}
    return values | {name: rate for name, rate in known.items() if rate is not None}
