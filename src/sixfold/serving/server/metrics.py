"""Prometheus metrics of the server, under vLLM's names, so that dashboards and clients carry over.

Latencies are measured in this process, from the arrival of the HTTP request; counters and
gauges of the engine come from its statistics, kept monotone over engine restarts. Not here:
the definitions of TTFT and the like (core/metrics.py).
"""

import time
from collections.abc import Iterable

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from sixfold.core.config import EngineConfig
from sixfold.core.metrics import EngineStats
from sixfold.core.request import RequestDelta, Timings

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

PRIVATE = ("model", "cache_dir", "trace_file", "kv_events", "kv_events_replay", "kv_offload_dir")
STEP_SECONDS = "sixfold:step_seconds"
PART_SECONDS = "sixfold:request_seconds"
ACCEPTED = "vllm:spec_decode_num_accepted_tokens_per_pos"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
_HISTOGRAMS = {
    "ttft": ("vllm:time_to_first_token_seconds", "Arrival to first token.", _SECONDS),
    "itl": ("vllm:inter_token_latency_seconds", "Time between tokens.", _SECONDS),
    "tpot": (
        "vllm:request_time_per_output_token_seconds",
        "Mean time per output token of a request, the first one excluded.",
        _SECONDS,
    ),
    "e2e": ("vllm:e2e_request_latency_seconds", "Arrival to last token.", _SECONDS),
    "queue": ("vllm:request_queue_time_seconds", "Time in the queue.", _SECONDS),
    "prefill": ("vllm:request_prefill_time_seconds", "Time in prefill.", _SECONDS),
    "decode": ("vllm:request_decode_time_seconds", "Time in decode.", _SECONDS),
    "prompt": ("vllm:request_prompt_tokens", "Prompt tokens of a request.", _TOKENS),
    "step": ("vllm:iteration_tokens_total", "Tokens computed in a step.", _TOKENS),
    "output": ("vllm:request_generation_tokens", "Generated tokens of a request.", _TOKENS),
}
_GAUGES = {
    "num_requests_running": ("vllm:num_requests_running", "Requests in the running batch."),
    "num_requests_waiting": ("vllm:num_requests_waiting", "Requests in the engine's queue."),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", "Used part of the KV cache, 0 to 1."),
    "num_backfill_running": ("sixfold:num_backfill_running", "Backfill in the running batch."),
    "num_backfill_waiting": ("sixfold:num_backfill_waiting", "Backfill in the engine's queue."),
    "backfill_limit_seconds": (
        "sixfold:backfill_limit_seconds",
        "Backfill that the last step might have held; infinite: no limit.",
    ),
}
_COUNTERS = {
    "prefix_cache_queries": ("vllm:prefix_cache_queries", "Tokens looked up in the prefix cache."),
    "prefix_cache_hits": ("vllm:prefix_cache_hits", "Tokens found in the prefix cache."),
    "prompt_tokens": ("vllm:prompt_tokens", "Prompt tokens processed."),
    "generation_tokens": ("vllm:generation_tokens", "Tokens generated."),
    "num_preemptions": ("vllm:num_preemptions", "Requests preempted."),
    "backfill_prompt_tokens": (
        "sixfold:backfill_prompt_tokens",
        "Prompt tokens computed for backfill.",
    ),
    "backfill_generation_tokens": (
        "sixfold:backfill_generation_tokens",
        "Tokens generated for backfill.",
    ),
    "num_steps": ("sixfold:steps", "Steps run."),
    "offload_loaded": ("sixfold:kv_offload_loaded_blocks", "Blocks loaded, not computed."),
    "offload_failed": ("sixfold:kv_offload_failed_loads", "Loads that failed: computed again."),
    "offload_written": ("sixfold:kv_offload_written_blocks", "Blocks written to disk."),
    "offload_dropped": ("sixfold:kv_offload_dropped_blocks", "Blocks that were not written."),
    "offload_corrupt": ("sixfold:kv_offload_corrupt_blocks", "Broken blocks, never used."),
    "num_drafts": ("vllm:spec_decode_num_drafts", "Times that tokens were guessed."),
    "num_draft_tokens": ("vllm:spec_decode_num_draft_tokens", "Tokens guessed."),
    "num_accepted_tokens": (
        "vllm:spec_decode_num_accepted_tokens",
        "Guessed tokens that were right.",
    ),
    "wasted_seconds": (
        "sixfold:spec_decode_wasted_seconds",
        "Time of steps for guessed tokens that were wrong.",
    ),
}


class EngineCollector:
    """The engine's statistics as metrics; counters never fall when an engine restarts."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._stats = EngineStats()
        self._base = dict.fromkeys(_COUNTERS, 0.0)
        self._seconds: dict[str, float] = {}
        self._accepted: list[int] = []

    def update(self, stats: EngineStats) -> None:
        """Take newer statistics. A counter that fell belongs to a new process: add it up."""
        for name in _COUNTERS:
            if getattr(stats, name) < getattr(self._stats, name):
                self._base[name] += getattr(self._stats, name)
        for part, seconds in stats.step_seconds.items():
            before = self._stats.step_seconds.get(part, 0.0)
            # `python` is a difference of clocks: it may seem to fall by microseconds.
            restarted = stats.num_steps < self._stats.num_steps
            grown = seconds if restarted else max(0.0, seconds - before)
            self._seconds[part] = self._seconds.get(part, 0.0) + grown
        self._count_accepted(stats)
        self._stats = stats

    def _count_accepted(self, stats: EngineStats) -> None:
        """By position: of a new process all, else what came since."""
        before = self._stats.accepted_by_position
        if stats.num_drafts < self._stats.num_drafts:
            before = []
        missing = len(stats.accepted_by_position) - len(self._accepted)
        self._accepted += [0] * missing
        for i, count in enumerate(stats.accepted_by_position):
            self._accepted[i] += count - (before[i] if i < len(before) else 0)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        for field, (name, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["model_name"])
            gauge.add_metric([self._model], float(getattr(self._stats, field)))
            yield gauge
        for field, (name, text) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=["model_name"])
            value = self._base[field] + float(getattr(self._stats, field))
            counter.add_metric([self._model], value)
            yield counter
        text = "Where the engine's time went while it had work."
        parts = CounterMetricFamily(STEP_SECONDS, text, labels=["model_name", "part"])
        for part, seconds in self._seconds.items():
            parts.add_metric([self._model, part], seconds)
        yield parts
        text = "Guessed tokens that were right, by position in the draft."
        labels = ["model_name", "position"]
        accepted = CounterMetricFamily(ACCEPTED, text, labels=labels)
        for position, count in enumerate(self._accepted):
            accepted.add_metric([self._model, str(position)], count)
        yield accepted


class ServerMetrics:
    """What this process measures, and the page that /metrics answers."""

    def __init__(self, model: str, settings: EngineConfig | None = None) -> None:
        self._registry = CollectorRegistry()
        self._model = model
        self.engine = EngineCollector(model)
        self._registry.register(self.engine)
        self._histograms = {
            key: Histogram(
                name, text, ["model_name"], buckets=buckets, registry=self._registry
            ).labels(model)
            for key, (name, text, buckets) in _HISTOGRAMS.items()
        }
        self._success = self._counter("vllm:request_success", "Ended requests.", "finished_reason")
        self._rejected = self._counter("vllm:admission_rejections", "503 answers.", "reason")
        self._parts = self._counter(PART_SECONDS, "Where requests' time went.", "part")
        self._cached = self._counter("vllm:prompt_tokens_cached", "Prompt tokens not computed.")
        self._restarts = self._counter("sixfold:engine_restarts", "Engine restarts.")
        if settings is not None:
            told = Info("sixfold:config", "The engine's settings.", registry=self._registry)
            told.info(settings_told(settings))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["model_name", *labels], registry=self._registry)

    def reject(self, reason: str) -> None:
        """A request was turned away: queue_full, draining or engine_down."""
        self._rejected.labels(self._model, reason).inc()

    def finish(self, reason: str) -> None:
        """A sequence ended: stop, length, abort, error or deadline."""
        self._success.labels(self._model, reason).inc()

    def step(self, stats: EngineStats) -> None:
        """The engine has run a step."""
        if stats.num_batched_tokens:
            self.observe("step", stats.num_batched_tokens)

    def attributed(self, timings: Timings) -> None:
        """Where a request's time went."""
        for part, seconds in timings.parts.items():
            self._parts.labels(self._model, part).inc(max(0.0, seconds))

    def cached(self, num_tokens: int) -> None:
        """Prompt tokens of a sequence that came from the prefix cache."""
        self._cached.labels(self._model).inc(num_tokens)

    def observe(self, name: str, value: float) -> None:
        """Book a value in the histogram of that short name."""
        self._histograms[name].observe(value)

    def render(self, stats: EngineStats, restarts: int) -> bytes:
        """The page in Prometheus' text format."""
        self.engine.update(stats)
        counter = self._restarts.labels(self._model)
        counter.reset()
        counter.inc(restarts)
        return generate_latest(self._registry)


def settings_told(settings: EngineConfig) -> dict[str, str]:
    """All settings but paths, which are nobody's business."""
    fields: dict[str, object] = msgspec.to_builtins(settings)
    return {name: str(value) for name, value in fields.items() if name not in PRIVATE}


class RequestClock:
    """Measures one sequence: give it every delta; it books the latencies."""

    def __init__(self, metrics: ServerMetrics, arrival_time: float, num_prompt_tokens: int) -> None:
        self._metrics = metrics
        self._arrival = arrival_time
        self._first = 0.0
        self._last = 0.0
        self._num_tokens = 0
        self._ended = False
        metrics.observe("prompt", num_prompt_tokens)

    def take(self, delta: RequestDelta) -> None:
        """Book a delta that has just come."""
        now = time.monotonic()
        count = len(delta.token_ids)
        if count:
            if self._num_tokens:
                self._metrics.observe("itl", now - self._last)
            else:
                self._first = now
                self._metrics.observe("ttft", now - self._arrival)
            for _ in range(count - 1):
                self._metrics.observe("itl", 0.0)  # tokens of one step share a time: core/metrics
            self._last = now
            self._num_tokens += count
        if delta.finish_reason is not None:
            self._finish(delta, now)

    def _complete(self, timings: Timings, now: float) -> None:
        """What the engine does not know of went by on the way to it and back."""
        timings.parts["http"] = 0.0
        timings.parts["http"] = max(0.0, now - self._arrival - sum(timings.parts.values()))
        if timings.first_token:
            timings.first_token["http"] = 0.0
            took = self._first - self._arrival
            timings.first_token["http"] = max(0.0, took - sum(timings.first_token.values()))

    def abort(self, reason: str) -> None:
        """The sequence ended without a last delta."""
        if not self._ended:
            self._ended = True
            self._metrics.finish(reason)

    def _finish(self, delta: RequestDelta, now: float) -> None:
        self._ended = True
        self._metrics.finish(delta.finish_reason or "stop")
        self._metrics.observe("e2e", now - self._arrival)
        self._metrics.observe("output", self._num_tokens)
        if self._num_tokens > 1:
            self._metrics.observe("tpot", (self._last - self._first) / (self._num_tokens - 1))
        if delta.timings is not None:
            self._complete(delta.timings, now)
            self._metrics.attributed(delta.timings)
            self._metrics.cached(delta.timings.cached_tokens)
            self._metrics.observe("queue", delta.timings.queue)
            self._metrics.observe("prefill", delta.timings.prefill)
            self._metrics.observe("decode", delta.timings.decode)
