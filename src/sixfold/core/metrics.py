"""What TTFT, TPOT, ITL, goodput ... mean in this project: defined here once, computed from traces.

Pure functions over timestamps that somebody else took. Times are seconds on one monotonic clock.
Not here: measuring, Prometheus names (serving/server/metrics.py), objectives (slo.py).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import msgspec


class EngineStats(msgspec.Struct, kw_only=True):
    """An engine's state and counters at one moment. Counters only grow in an engine's life."""

    num_requests_running: int = 0
    """Gauge: requests that hold a slot."""
    num_requests_waiting: int = 0
    """Gauge: requests that were admitted but hold none."""
    kv_cache_usage: float = 0.0
    """Gauge: blocks that running requests hold, as a part of all, 0 to 1."""
    num_batched_tokens: int = 0
    """Gauge: tokens computed by the last step."""
    prefix_cache_queries: int = 0
    """Counter: prompt tokens looked up in the prefix cache."""
    prefix_cache_hits: int = 0
    """Counter: prompt tokens found there."""
    prompt_tokens: int = 0
    """Counter: prompt tokens of requests that began, the cached ones included."""
    generation_tokens: int = 0
    """Counter: tokens sampled."""
    num_preemptions: int = 0
    """Counter: requests that lost their blocks and began anew."""
    num_backfill_running: int = 0
    """Gauge: of those that hold a slot, requests that yield to interactive ones."""
    num_backfill_waiting: int = 0
    """Gauge: of those that hold none, requests that yield to interactive ones."""
    backfill_limit_seconds: float = 0.0
    """Gauge: seconds of backfill that the last step might have held; infinite: no limit."""
    backfill_prompt_tokens: int = 0
    """Counter: prompt tokens computed for backfill."""
    backfill_generation_tokens: int = 0
    """Counter: tokens sampled for backfill."""
    num_steps: int = 0
    """Counter: steps run."""
    num_drafts: int = 0
    """Counter: times that tokens were guessed for a request."""
    num_draft_tokens: int = 0
    """Counter: tokens guessed."""
    num_accepted_tokens: int = 0
    """Counter: guessed tokens that were right."""
    accepted_by_position: list[int] = []
    """Counter per position in a draft: guessed tokens there that were right."""
    wasted_seconds: float = 0.0
    """Counter: time of steps for guessed tokens that were wrong."""
    offload_loaded: int = 0
    """Counter: blocks of the KV cache that were loaded instead of computed."""
    offload_failed: int = 0
    """Counter: times that blocks were to be loaded and could not be."""
    offload_written: int = 0
    """Counter: blocks written to disk."""
    offload_dropped: int = 0
    """Counter: blocks that were not written: the disk was too slow, full or broken."""
    offload_corrupt: int = 0
    """Counter: blocks on disk that were not what they should be, and were not used."""
    step_seconds: dict[str, float] = {}
    """Counter per part: where the time went while there was work; `draft` is guessing by a model,
    `offload` loading blocks, `python` all else that is not native code."""


class RequestTrace(msgspec.Struct, frozen=True, kw_only=True):
    """One request as its client saw it.

    `token_times` has one entry per output token, in order: when it arrived. Tokens that came in
    one chunk share a time. `scheduled` is when the engine began it, where that is known.
    """

    arrival: float
    token_times: tuple[float, ...] = ()
    end: float
    num_prompt_tokens: int = 0
    scheduled: float | None = None
    ok: bool = True


def ttft(trace: RequestTrace) -> float | None:
    """Time to first token: from sending the request to its first output token."""
    return trace.token_times[0] - trace.arrival if trace.token_times else None


def tpot(trace: RequestTrace) -> float | None:
    """Time per output token: mean over the tokens after the first; None for fewer than two."""
    count = len(trace.token_times) - 1
    return (trace.token_times[-1] - trace.token_times[0]) / count if count > 0 else None


def itl(trace: RequestTrace) -> list[float]:
    """Inter-token latencies: every gap between neighbouring output tokens."""
    return [after - before for before, after in pairwise(trace.token_times)]


def e2e(trace: RequestTrace) -> float:
    """End-to-end latency: from sending the request to the end of its answer."""
    return trace.end - trace.arrival


def queue(trace: RequestTrace) -> float | None:
    """Time from sending the request to its first scheduled step, where that is known."""
    return None if trace.scheduled is None else trace.scheduled - trace.arrival


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics (NumPy's default). Refuses no values."""
    assert values and 0 <= percent <= 100
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def duration(traces: Sequence[RequestTrace]) -> float:
    """Wall time of a run: from the first arrival to the last end; 0 without requests."""
    if not traces:
        return 0.0
    return max(t.end for t in traces) - min(t.arrival for t in traces)


def output_throughput(traces: Sequence[RequestTrace]) -> float:
    """Output tokens per second of the run, over requests that succeeded."""
    seconds = duration(traces)
    return sum(len(t.token_times) for t in traces if t.ok) / seconds if seconds > 0 else 0.0


def request_throughput(traces: Sequence[RequestTrace]) -> float:
    """Requests that succeeded, per second of the run."""
    return goodput(traces, lambda trace: True)


def goodput(traces: Sequence[RequestTrace], meets: Callable[[RequestTrace], bool]) -> float:
    """Requests per second that succeeded and met their objectives (DistServe, OSDI 2024)."""
    seconds = duration(traces)
    return sum(1 for t in traces if t.ok and meets(t)) / seconds if seconds > 0 else 0.0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution in a few numbers; `count` of 0 leaves the others 0."""

    count: int = 0
    mean: float = 0.0
    min: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    p99_9: float = 0.0
    max: float = 0.0


def spread(values: Iterable[float | None]) -> Spread:
    """Summarise values; None (the request had no such time) is left out."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return Spread()
    return Spread(
        count=len(known),
        mean=math.fsum(known) / len(known),
        min=known[0],
        p50=percentile(known, 50),
        p90=percentile(known, 90),
        p95=percentile(known, 95),
        p99=percentile(known, 99),
        p99_9=percentile(known, 99.9),
        max=known[-1],
    )


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in numbers. Latencies are over successful requests."""

    requests: int
    failed: int
    seconds: float
    output_tokens: int
    tokens_per_second: float
    requests_per_second: float
    ttft: Spread
    tpot: Spread
    itl: Spread
    e2e: Spread


def summarise(traces: Sequence[RequestTrace]) -> Summary:
    """All of the above for one run."""
    good = [trace for trace in traces if trace.ok]
    return Summary(
        requests=len(traces),
        failed=len(traces) - len(good),
        seconds=duration(traces),
        output_tokens=sum(len(trace.token_times) for trace in good),
        tokens_per_second=output_throughput(traces),
        requests_per_second=request_throughput(traces),
        ttft=spread(map(ttft, good)),
        tpot=spread(map(tpot, good)),
        itl=spread(gap for trace in good for gap in itl(trace)),
        e2e=spread(map(e2e, good)),
    )
