"""Signals out of what was seen: of a server's window, of a benchmark's point, of replicas together.

Nothing is guessed: what was not seen has no reading. Not here: the signals' meaning (signals.py),
taking windows (endpoint.py, prometheus.py).
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from sixfold.core.point import Point
from sixfold.core.slo import Slo
from sixfold.instrument.advisor.settings import of_settings
from sixfold.instrument.advisor.signals import EXCESSES, Reading, Readings, excesses
from sixfold.instrument.advisor.window import Window
from sixfold.instrument.loadgen.selfcheck import MAX_CPU
from sixfold.instrument.telemetry.histograms import statistics
from sixfold.instrument.telemetry.series import rise

LEAST_TOKENS = 100
"""Below so many tokens a share of them says nothing."""
LEAST_REQUESTS = 5
LATENCIES = ("ttft", "queue", "prefill", "itl", "tpot", "e2e")


def latencies(window: Window) -> dict[str, float]:
    """Seconds by the server's own histograms, by metric key: "ttft:p95"."""
    values: dict[str, float] = {}
    for name in LATENCIES:
        found = window.histograms.get(name)
        if found is not None and found.count >= LEAST_REQUESTS:
            values |= {f"{name}:{stat}": value for stat, value in statistics(found).items()}
    return values


def _pressure(readings: Readings, engine: str) -> Readings:
    """What of the KV cache makes requests wait: all of a paged one, nothing of slots' own parts."""
    if engine == "llamacpp":
        return {"kv_pressure": Reading(0.0, "derived", "llama.cpp's slots never wait for blocks")}
    peak = readings.get("kv_max")
    return {} if peak is None else {"kv_pressure": peak}


def of_window(window: Window, slo: Slo) -> Readings:
    """Of a server's own metrics."""
    known = latencies(window)
    readings = excesses(slo, known, "the server's histograms")
    readings |= _latency_signals(known, "the server's histograms")
    readings |= _gauges(window)
    readings |= _counters(window.grown, _finished(window))
    readings |= _pressure(readings, window.engine)
    return readings | of_settings(window.engine, window.settings)


def of_point(point: Point, slo: Slo) -> Readings:
    """Of a benchmark's record: the client's latencies, and the engine's metrics beside them."""
    readings = excesses(slo, point.values, "the benchmark's client")
    queue = {key: value for key, value in point.values.items() if key.startswith("queue:")}
    readings |= _latency_signals(point.values | queue, "the benchmark's client")
    told = {name: value for name, value in point.telemetry.items() if isinstance(value, float)}
    readings |= _of_telemetry(told, point.values.get("requests"))
    if "hit_share" not in readings and (cached := point.values.get("cached_rate")) is not None:
        readings["hit_share"] = Reading(cached, "measured", "cached tokens in the answers")
    if "client_bound" in point.client:
        bound = float(_client_explains(point, slo))
        readings["client_bound"] = Reading(bound, "measured", "the client's self-check")
    if "error_rate" in point.values:
        readings["error_share"] = Reading(point.values["error_rate"], "measured", "the client")
    if (reuse := point.fingerprint.get("prefix_reuse")) is not None:
        readings["shareable"] = Reading(float(reuse), "derived", "the workload's fingerprint")
    if (slope := _slope(point.telemetry.get("tpot_by_context"))) is not None:
        readings["context_slope"] = Reading(slope, "measured", "time per token by context")
    readings |= _pressure(readings, point.engine)
    return readings | of_settings(point.engine, point.config)


def _client_explains(point: Point, slo: Slo) -> bool:
    """Whether the client was a limit, and what it lagged is why the objective is broken.

    A client on the server's own cores is late by milliseconds; seconds are not its fault.
    """
    client = point.client
    seconds = [c for c in slo.clauses if c.metric in EXCESSES and c.key in point.values]
    broken = [c for c in seconds if point.values[c.key] > c.bound]
    if not client["client_bound"] or not broken:
        return False
    if client.get("cpu_share", 1.0) >= MAX_CPU:
        return True
    lag = max(client.get("lag_p99", 0.0), client.get("late_p99", 0.0))
    return all(point.values[c.key] - lag <= c.bound for c in broken)


def _latency_signals(known: Mapping[str, float], source: str) -> Readings:
    found: dict[str, tuple[float, str]] = {}
    if (ttft := known.get("ttft:mean")) is not None:
        found["ttft_mean"] = (ttft, "measured")
        queue, whole = known.get("queue:mean"), known.get("e2e:mean")
        if queue is not None and ttft > 0:
            found["queue_share"] = (min(1.0, queue / ttft), "derived")
            if whole is not None and whole > queue:
                share = max(0.0, ttft - queue) / (whole - queue)
                found["prefill_time"] = (min(1.0, share), "derived")
    middle, tail = known.get("itl:p50"), known.get("itl:p99")
    if middle is not None:
        found["itl_p50"] = (middle, "measured")
        if tail is not None and middle > 0:
            found["itl_tail"] = (tail / middle, "derived")
    return {name: Reading(value, how, source) for name, (value, how) in found.items()}


def _gauges(window: Window) -> Readings:
    """Of gauges that were read several times: means and peaks."""
    source = "the server's gauges"
    found: dict[str, float] = {}
    for name, short in (
        ("num_requests_running", "running"),
        ("num_requests_waiting", "waiting"),
        ("kv_cache_usage", "kv"),
    ):
        if values := window.gauges.get(name):
            found[f"{short}_mean"], found[f"{short}_max"] = fmean(values), max(values)
    grown = rise(window.gauges.get("num_requests_waiting", ()))
    if grown is not None:
        found["waiting_rise"] = grown
    found.pop("waiting_max", None)
    return {name: Reading(value, "measured", source) for name, value in found.items()}


def _finished(window: Window) -> float | None:
    found = window.histograms.get("e2e")
    return None if found is None else found.count


def _counters(grown: Mapping[str, float], finished: float | None) -> Readings:
    """Shares of what was counted."""
    source = "growth of the server's counters"
    found: dict[str, float] = {}
    queries, hits = grown.get("prefix_cache_queries"), grown.get("prefix_cache_hits")
    if queries is not None and hits is not None and queries >= LEAST_TOKENS:
        found["hit_share"] = min(1.0, hits / queries)
    preempted = grown.get("num_preemptions")
    if preempted is not None and finished is not None and finished >= LEAST_REQUESTS:
        found["preempted_share"] = preempted / finished
    computed, made = _computed(grown), grown.get("generation_tokens")
    if computed is not None and made is not None and computed + made >= LEAST_TOKENS:
        found["prefill_share"] = computed / (computed + made)
    prompt, answer = grown.get("prompt_seconds"), grown.get("generation_seconds")
    if prompt is not None and answer is not None and prompt + answer > 0:
        found["prefill_time"] = prompt / (prompt + answer)
    drafted, accepted = grown.get("spec_drafted"), grown.get("spec_accepted")
    if drafted is not None and accepted is not None and drafted >= LEAST_TOKENS:
        found["acceptance"] = min(1.0, accepted / drafted)
    return {name: Reading(value, "derived", source) for name, value in found.items()}


def _computed(grown: Mapping[str, float]) -> float | None:
    """Prompt tokens that were computed: those that did not come from the cache."""
    if "prompt_tokens_computed" in grown:
        return grown["prompt_tokens_computed"]
    if "prompt_tokens" not in grown:
        return None
    return max(0.0, grown["prompt_tokens"] - grown.get("prefix_cache_hits", 0.0))


TELEMETRY = {
    "running_mean": "engine_requests_running_mean_count",
    "running_max": "engine_requests_running_max_count",
    "waiting_mean": "engine_requests_waiting_mean_count",
    "waiting_rise": "engine_requests_waiting_rise_count",
    "kv_mean": "engine_kv_cache_usage_mean_fraction",
    "kv_max": "engine_kv_cache_usage_max_fraction",
    "hit_share": "engine_prefix_hit_fraction",
    "acceptance": "engine_acceptance_fraction",
}


def _of_telemetry(told: Mapping[str, float], requests: float | None) -> Readings:
    """What stood beside a benchmark's load: a lifetime's total is nowhere in it."""
    source = "the engine's metrics beside the load"
    found = {
        name: Reading(told[key], "measured", source)
        for name, key in TELEMETRY.items()
        if key in told
    }
    grown = {
        name: told[key]
        for name, key in (
            ("num_preemptions", "engine_preemptions_count"),
            ("prompt_tokens", "engine_prompt_tokens_count"),
            ("prompt_tokens_computed", "engine_prompt_tokens_computed_count"),
            ("generation_tokens", "engine_generated_tokens_count"),
            ("prompt_seconds", "engine_prompt_work_seconds"),
            ("generation_seconds", "engine_generation_work_seconds"),
        )
        if key in told
    }
    if "prompt_tokens" in grown and "prompt_tokens_computed" not in grown:
        hits = told.get("engine_prefix_hit_fraction", 0.0) * grown["prompt_tokens"]
        grown["prefix_cache_hits"] = hits
    return _counters(grown, requests) | found


def _slope(bins: Any) -> float | None:
    """Time per token in the longest contexts over that in the shortest; bins with few are out."""
    if not isinstance(bins, dict):
        return None
    means = [one["mean_seconds"] for one in bins.values() if one["count"] >= LEAST_TOKENS]
    return means[-1] / means[0] if len(means) > 1 and means[0] > 0 else None


def together(replicas: Sequence[Readings]) -> Readings:
    """Several replicas as one: the worst latency, the sum of requests, and how unlike they are."""
    if len(replicas) == 1:
        return dict(replicas[0])
    merged: Readings = {}
    for name in dict.fromkeys(name for one in replicas for name in one):
        asked = [one for one in replicas if not (name in SERVED and _idle(one))]
        found = [one[name] for one in asked if name in one]
        if not found or len(found) < len(asked):
            continue  # a replica that does not tell leaves the whole unknown
        values = [reading.value for reading in found]
        value = _MERGE.get(name, max)(values)
        merged[name] = Reading(value, found[0].how, f"{found[0].source}, {len(found)} replicas")
    return merged | _unlike(replicas)


SERVED = ("ttft_excess", "itl_excess", "e2e_excess", "ttft_mean", "itl_p50", "itl_tail",
          "queue_share", "prefill_time", "prefill_share", "hit_share", "preempted_share",
          "acceptance")  # fmt: skip
"""What only requests that were served tell: of a replica that served none there is nothing."""


def _idle(replica: Readings) -> bool:
    """Whether it had nothing to do, and so can't tell how it does it."""
    load = [replica[name].value for name in ("running_mean", "waiting_mean") if name in replica]
    return len(load) == 2 and sum(load) < 0.1 and "ttft_mean" not in replica


_MERGE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "running_mean": sum, "running_max": sum, "waiting_mean": sum, "waiting_rise": sum,
    "slots": sum, "hit_share": fmean, "prefill_share": fmean, "queue_share": fmean,
    "ttft_mean": fmean, "kv_mean": fmean, "preempted_share": fmean, "shareable": fmean,
    "acceptance": fmean, "caching_on": min, "token_budget": min,
}  # fmt: skip
"""How replicas' values become one; all others by the largest."""


def _unlike(replicas: Sequence[Readings]) -> Readings:
    """How unevenly the load lies. Silent where a replica does not tell."""
    found: Readings = {}
    source = f"{len(replicas)} replicas side by side"
    if all("running_mean" in one and "waiting_mean" in one for one in replicas):
        loads = [one["running_mean"].value + one["waiting_mean"].value for one in replicas]
        found["replica_skew"] = Reading(max(loads) / max(min(loads), 0.5), "derived", source)
        if all("slots" in one for one in replicas):
            free = max(max(0.0, one["slots"].value - one["running_mean"].value) for one in replicas)
            waiting = max(one["waiting_mean"].value for one in replicas)
            found["replica_idle_gap"] = Reading(min(waiting, free), "derived", source)
    return found
