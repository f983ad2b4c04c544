"""The scheduler's limits: one frozen value, checked when it is made."""

import math

import msgspec

from sixfold.core.errors import ConfigError


class SchedulerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a step may hold, and in which order requests get in. Names are vLLM's."""

    max_num_seqs: int
    """Most requests that run at once (and slots of the runner's block tables)."""
    max_num_batched_tokens: int
    """Token budget of a step. Below max_num_seqs it also bounds how many requests run."""
    max_model_len: int
    """Longest prompt + output in tokens."""
    policy: str = "fcfs"
    """fcfs, or priority (lower value first, then arrival)."""
    batching: str = "continuous"
    """continuous, static (form a batch, run it to its end, form the next), or dynamic (the same,
    but wait until it is full or `max_batch_delay` is over). Backfill is always continuous."""
    max_batch_delay: float = 0.0
    """Seconds that a dynamic batch waits for company, from its first request's arrival on."""

    interactive_slowdown: float = 0.1
    """Part by which p95 of TTFT and TPOT of interactive requests may get worse by backfill."""

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", "give at least 1")
        if not self.max_batch_delay >= 0.0:
            raise ConfigError(f"max_batch_delay is {self.max_batch_delay}", "give 0 or more")
        if not 0.0 <= self.interactive_slowdown < math.inf:
            raise ConfigError(
                f"interactive_slowdown is {self.interactive_slowdown}", "give 0 or more"
            )
        for name, known in (
            ("policy", ("fcfs", "priority")),
            ("batching", ("continuous", "static", "dynamic")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}", f"choose one of: {', '.join(known)}"
                )
