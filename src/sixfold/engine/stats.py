"""The engine's counters, and all its parts' counters as one record. Not here: who counts."""

from dataclasses import dataclass

from sixfold.core.metrics import EngineStats
from sixfold.engine.offload.offloader import Offloader
from sixfold.engine.scheduler.output import SchedulerStats
from sixfold.engine.speculative.speculator import Speculator


@dataclass(slots=True)
class Totals:
    """Of an engine since its start; `batched_tokens` of its last step."""

    prompt_tokens: int = 0
    generated: int = 0
    batched_tokens: int = 0
    steps: int = 0
    busy_seconds: float = 0.0
    busy_since: float | None = None

    def busy(self, began: float, ended: float, goes_on: bool) -> None:
        """A step took this time; what was done before it, with work waiting, is time of it too."""
        self.busy_seconds += ended - (self.busy_since or began)
        self.busy_since = ended if goes_on else None


def engine_stats(
    totals: Totals, scheduler: SchedulerStats, seconds: dict[str, float],
    speculator: Speculator | None, offloader: Offloader | None,
) -> EngineStats:  # fmt: skip
    """Counters since the start, and gauges of now. `seconds`: of native code, by part."""
    stats = EngineStats(
        num_requests_running=scheduler.running,
        num_requests_waiting=scheduler.waiting,
        kv_cache_usage=scheduler.kv_cache_usage,
        prefix_cache_queries=scheduler.prefix_cache_queries,
        prefix_cache_hits=scheduler.prefix_cache_hits,
        prompt_tokens=totals.prompt_tokens,
        generation_tokens=totals.generated,
        num_preemptions=scheduler.preemptions,
        num_batched_tokens=totals.batched_tokens,
        num_backfill_running=scheduler.backfill.running,
        num_backfill_waiting=scheduler.backfill.waiting,
        backfill_limit_seconds=scheduler.backfill.limit,
        backfill_prompt_tokens=scheduler.backfill.prompt_tokens,
        backfill_generation_tokens=scheduler.backfill.generated,
        num_steps=totals.steps,
        step_seconds=seconds,
    )
    if speculator is not None:
        counted = speculator.counted
        seconds["draft"] = counted.seconds
        stats.num_drafts, stats.num_draft_tokens = counted.drafts, counted.tokens
        stats.num_accepted_tokens = counted.accepted
        stats.accepted_by_position = list(counted.accepted_at)
        stats.wasted_seconds = counted.wasted_seconds
    if offloader is not None:
        seconds["offload"] = offloader.counts.seconds
        stats.offload_loaded, stats.offload_failed = (
            offloader.counts.loaded, offloader.counts.failed
        )  # fmt: skip
        if offloader.disk is not None:
            disk = offloader.disk.counts
            stats.offload_written, stats.offload_dropped = disk.written, disk.dropped
            stats.offload_corrupt = disk.corrupt
    seconds["python"] = max(0.0, totals.busy_seconds - sum(seconds.values()))
    return stats
