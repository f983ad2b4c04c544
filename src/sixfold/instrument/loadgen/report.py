"""A run in numbers: a flat dict from outcomes, in base units.

Keys are "ttft:p95" and the like for latencies in seconds, and plain names for rates per second
and fractions. Not here: what the metrics mean (core/metrics.py), how they are shown.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from sixfold.core.metrics import (
    RequestTrace,
    Spread,
    duration,
    e2e,
    goodput,
    itl,
    output_throughput,
    queue,
    request_throughput,
    spread,
    tpot,
    ttft,
)
from sixfold.instrument.loadgen.plan import Outcome

LATENCIES: dict[str, Callable[[Sequence[RequestTrace]], Iterable[float | None]]] = {
    "ttft": lambda traces: map(ttft, traces),
    "tpot": lambda traces: map(tpot, traces),
    "itl": lambda traces: (gap for trace in traces for gap in itl(trace)),
    "e2e": lambda traces: map(e2e, traces),
    "queue": lambda traces: map(queue, traces),
}
STATISTICS = {
    "mean": "mean",
    "p50": "p50",
    "p90": "p90",
    "p95": "p95",
    "p99": "p99",
    "p99.9": "p99_9",
    "max": "max",
    "min": "min",
}
"""Names in keys, and the fields of core/metrics' Spread."""


def report(
    outcomes: Sequence[Outcome], meets: Callable[[Outcome], bool] | None = None
) -> dict[str, float]:
    """All metrics of a run: seconds, tokens per second, requests per second, fractions, counts.

    Latencies are over successful requests; what was not measured (no success, no server that
    tells of cached tokens, no `meets` to judge goodput by) has no key.
    """
    traces = [outcome.trace for outcome in outcomes]
    good = [outcome for outcome in outcomes if outcome.trace.ok]
    return {
        **_latencies([outcome.trace for outcome in good]),
        **_rates(traces),
        **_goodput(traces, good, meets),
        **_cached_rate(good),
        "requests": float(len(traces)),
        "error_rate": 1 - len(good) / len(traces) if traces else 0.0,
    }


def _latencies(good: Sequence[RequestTrace]) -> dict[str, float]:
    spreads = {name: spread(values(good)) for name, values in LATENCIES.items()}
    return {
        f"{name}:{statistic}": value
        for name, found in spreads.items()
        for statistic, value in _statistics(found)
    }


def _statistics(found: Spread) -> Iterator[tuple[str, float]]:
    if found.count:
        for key, field in STATISTICS.items():
            yield key, getattr(found, field)


def _rates(traces: Sequence[RequestTrace]) -> dict[str, float]:
    seconds = duration(traces)
    prompt_tokens = sum(trace.num_prompt_tokens for trace in traces if trace.ok)
    tokens_in = prompt_tokens / seconds if seconds > 0 else 0.0
    tokens_out = output_throughput(traces)
    return {
        "duration": seconds,
        "input_throughput": tokens_in,
        "output_throughput": tokens_out,
        "total_throughput": tokens_in + tokens_out,
        "request_throughput": request_throughput(traces),
    }


def _goodput(
    traces: Sequence[RequestTrace],
    good: Sequence[Outcome],
    meets: Callable[[Outcome], bool] | None,
) -> dict[str, float]:
    if meets is None:
        return {}
    kept = {id(outcome.trace) for outcome in good if meets(outcome)}
    return {"goodput": goodput(traces, lambda trace: id(trace) in kept)}


def _cached_rate(good: Sequence[Outcome]) -> dict[str, float]:
    """Prompt tokens from the prefix cache, as a part of all, where the server tells."""
    told = [(o.num_cached_tokens, o.trace.num_prompt_tokens) for o in good]
    known = [(cached, total) for cached, total in told if cached is not None]
    total = sum(total for _, total in known)
    return {"cached_rate": sum(cached for cached, _ in known) / total} if total else {}
