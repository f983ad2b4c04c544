"""What the scheduler knows about one request. Not here: the rules (scheduler.py)."""

from dataclasses import dataclass, field
from enum import Enum

from sixfold.core.request import EngineRequest, Timings
from sixfold.engine.kvcache.sequence import KVSequence
from sixfold.engine.scheduler.output import ScheduledChunk


class Phase(Enum):
    """Where a request is; its value is the field of `Timings` that the time there counts for."""

    WAITING = "queue"
    PREFILL = "prefill"
    DECODE = "decode"


NO_CHUNK = ScheduledChunk("", -1, 0, [], False, ())


@dataclass(slots=True, eq=False)
class RequestState:
    """A request in the system, from `add` until it is finished, aborted or expired."""

    request: EngineRequest
    order: tuple[bool, int, int]
    """(backfill, priority, arrival number): lower goes first, and is preempted last."""
    token_ids: list[int]
    """Prompt and output."""
    max_len: int
    """Most tokens (prompt and output) it may get to."""
    kv: KVSequence
    stamp: float
    """When the current phase began."""
    output: list[int] = field(default_factory=list)
    """Tokens generated so far."""
    num_computed: int = 0
    """Tokens whose keys and values are in the cache."""
    limit: int = 0
    """Tokens that can be computed before the scheduler has to look closer."""
    phase: Phase = Phase.WAITING
    slot: int = -1
    chunk: ScheduledChunk = NO_CHUNK
    """The last one scheduled; while decoding, the one that is used again and again."""
    was_admitted: bool = False
    arrived: float = 0.0
    first_token: float = 0.0
    """When it was there."""
    backfilled: float = 0.0
    """Seconds that backfill had taken of all steps when it arrived."""
    own: float = 0.0
    prompts: float = 0.0
    """Seconds that decodes and prompts had taken when its first token was there (backfill.py)."""
    timings: Timings = field(default_factory=Timings)

    @property
    def needs_all(self) -> bool:
        """All of the prompt must be computed, whatever of it is cached."""
        return self.scores_prompt or self.request.pooling == "mean"

    @property
    def scores_prompt(self) -> bool:
        """Prompt logprobs are still due, so that all of the prompt must be computed."""
        return self.request.params.prompt_logprobs is not None and not self.output

    def enter(self, phase: Phase, now: float) -> None:
        """Book the time of the phase that ends."""
        self.book(now)
        self.phase = phase

    def book(self, now: float) -> None:
        """Add the time since the last call to the current phase."""
        name = self.phase.value
        # Clocks of caller and engine may differ by a little: time never runs backwards here.
        spent = max(0.0, now - self.stamp)
        setattr(self.timings, name, getattr(self.timings, name) + spent)
        self.stamp = now
