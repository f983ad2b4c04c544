"""AIPerf: `profile_export_aiperf.json`, schema 1 (and GenAI-Perf's file of the same form).

Each metric carries its unit. Its inter-token latency is a mean per request, so it becomes `tpot`.
Not here: per-request records, time slices, GPU telemetry beyond the GPUs' names.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from sixfold.core.point import Point
from sixfold.instrument.store.importers.common import (
    UNKNOWN,
    Json,
    hardware,
    imported,
    number,
    outcome,
    plain,
    setting,
    shaped,
    spread,
)

TOOL = "AIPerf"
TIMES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
RATES = {
    "request_throughput": "request_throughput",
    "output_token_throughput": "output_throughput",
    "total_token_throughput": "total_throughput",
    "goodput": "goodput",
}
LENGTHS = {"input_sequence_length": "isl", "output_sequence_length": "osl"}
DIVISORS = {"s": 1, "sec": 1, "seconds": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
LOAD = {"concurrency": "concurrency", "request_rate": "rate", "request_count": "requests"}


class AiperfExport(msgspec.Struct):
    """What we read beside the metrics."""

    start_time: str | None = None
    was_cancelled: bool | None = None
    input_config: dict[str, Any] | None = None
    telemetry_data: dict[str, Any] | None = None
    aiperf_version: str | None = None


def sniff(document: Json) -> bool:
    """Whether it is an export: a metric with its unit, beside the tool's version or settings."""
    marked = "aiperf_version" in document or "input_config" in document
    return marked and any("unit" in _metric(document, name) for name in (*TIMES, *RATES))


def points(document: Json, name: str) -> Iterator[Point]:
    """The one point of an export."""
    found = shaped(document, AiperfExport, TOOL)
    settings = found.input_config or {}
    lengths = {ours: _metric(document, n).get("avg") for n, ours in LENGTHS.items()}
    fields: Json = {
        "date": (found.start_time or "")[:40],
        "engine": UNKNOWN,
        "model": _model(settings),
        "hardware": _hardware(found.telemetry_data or {}),
        "fingerprint": plain(lengths),
        "load": _load(settings),
    }
    fields |= outcome(_values(document), *_counts(document))
    if found.was_cancelled and "status" not in fields:
        fields |= {"status": "failed", "reason": "the run was cancelled"}
    yield imported(TOOL, name, document, fields)


def _metric(document: Json, name: str) -> Json:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _values(document: Json) -> dict[str, float]:
    values: dict[str, float] = {}
    for theirs, ours in TIMES.items():
        found = _metric(document, theirs)
        divisor = DIVISORS.get(str(found.get("unit")))
        values |= spread(ours, found, divisor) if divisor else {}
    for theirs, ours in RATES.items():
        rate = number(_metric(document, theirs).get("avg"))
        values |= {ours: rate} if rate is not None else {}
    return values


def _counts(document: Json) -> tuple[float | None, float | None]:
    """Requests that succeeded and failed; the second is absent where none did."""
    good = number(_metric(document, "request_count").get("avg"))
    bad = number(_metric(document, "error_request_count").get("avg"))
    return good, bad or 0.0


def _inside(settings: Json, *path: str) -> object:
    found: object = settings
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _model(settings: Json) -> str:
    """Wherever a version of the settings puts its models' names."""
    names = _inside(settings, "endpoint", "model_names") or settings.get("model_names")
    items = _inside(settings, "models", "items")
    if isinstance(items, list):
        names = [item.get("name") for item in items if isinstance(item, dict)]
    known = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
    return ", ".join(known) or UNKNOWN


def _load(settings: Json) -> Json:
    loadgen = settings.get("loadgen")
    found = loadgen if isinstance(loadgen, dict) else {}
    return plain({ours: setting(found.get(theirs)) for theirs, ours in LOAD.items()})


def _hardware(telemetry: Json) -> str:
    """Names and counts of the GPUs that were watched."""
    endpoints = telemetry.get("endpoints")
    names: Counter[str] = Counter()
    for endpoint in endpoints.values() if isinstance(endpoints, dict) else ():
        gpus = endpoint.get("gpus") if isinstance(endpoint, dict) else None
        for gpu in gpus.values() if isinstance(gpus, dict) else ():
            if isinstance(gpu, dict) and isinstance(gpu.get("gpu_name"), str):
                names[gpu["gpu_name"]] += 1
    return ", ".join(hardware(name, count) for name, count in names.items())
