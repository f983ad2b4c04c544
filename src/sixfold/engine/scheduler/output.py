"""What one step computes: the scheduler's order to the model runner. Data only."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sixfold.engine.kvcache.offload import Load
from sixfold.engine.kvcache.sequence import Change


@dataclass(slots=True, eq=False)
class ScheduledChunk:
    """Consecutive tokens of one request, computed in this step.

    Valid until the next `schedule`: a decoding request's chunk is one object that is reused.
    """

    request_id: str
    slot: int
    """Row of the runner's block tables, 0 to max_num_seqs - 1; fixed while the request runs."""
    start: int
    """Position of the first token (= tokens computed before)."""
    token_ids: list[int]
    """The tokens to compute."""
    samples: bool
    """The last token's logits are sampled."""
    new_blocks: Sequence[Sequence[Change]]
    """Per KV group, (index, block id) written to the slot's block table since its last chunk.

    Block id 0 clears an entry (out of the window). A request's first chunk brings all entries."""
    prompt_logprobs: bool = False
    """Logits of all rows are wanted: each row scores the prompt token behind it."""
    num_drafted: int = 0
    """Tokens at the end of `token_ids` that are guessed: each row from the one before them on is
    sampled, and what is computed behind the first wrong one is void. Whoever drafts them fills
    them in."""
    backfill: bool = False
    """Of a request that yields to interactive ones."""


@dataclass(slots=True, eq=False)
class SchedulerOutput:
    """One step. Decodes come first in `chunks`; a chunk may read blocks of an earlier one."""

    chunks: list[ScheduledChunk] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
    """Requests that lost their blocks and wait again."""
    expired: list[str] = field(default_factory=list)
    """Requests dropped because their deadline passed; they are over."""
    num_batched_tokens: int = 0
    num_decodes: int = 0
    """Chunks at the beginning of `chunks` that are decodes."""
    loads: list[Load] = field(default_factory=list)
    """Blocks to be brought into the arena before anything runs; if one can't be had, `unadmit`."""
    backfill_share: float = 0.0
    """Part of the step's time, 0 to 1, that it would not have taken without backfill; known once
    it has run."""


@dataclass(frozen=True, slots=True)
class BackfillStats:
    """Of requests that yield to interactive ones: gauges of now, and counters since the start."""

    running: int
    waiting: int
    limit: float
    """Seconds of it that the last step might have held; inf: no limit."""
    prompt_tokens: int
    """Computed, those computed again included."""
    generated: int


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Gauges of now, and counters since the start."""

    running: int
    waiting: int
    kv_cache_usage: float
    """Share of KV blocks in use, 0 to 1."""
    prefix_cache_queries: int
    """Prompt tokens looked up."""
    prefix_cache_hits: int
    """Prompt tokens that were not computed."""
    preemptions: int
    backfill: BackfillStats
