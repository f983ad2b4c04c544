"""Who waits and who runs, in two lanes: interactive requests, and backfill that yields to them.

Not here: who gets how much of a step (planner.py), what a request is (state.py).
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.kvcache.sequence import KVSequence
from sixfold.engine.scheduler.output import ScheduledChunk
from sixfold.engine.scheduler.policy import Admission, OrderedRequests
from sixfold.engine.scheduler.state import NO_CHUNK, Phase, RequestState


class Lane:
    """Requests of one kind by phase, each in order."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.waiting = OrderedRequests()
        self.prefilling = OrderedRequests()
        self.decoding = OrderedRequests()

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return len(self.prefilling) + len(self.decoding)

    def __len__(self) -> int:
        return len(self.waiting) + self.num_running

    def running(self) -> Iterator[RequestState]:
        """Those that hold a slot, whatever they do there."""
        return chain(self.prefilling, self.decoding)

    def last_running(self) -> RequestState | None:
        """The one that is preempted first, if any runs."""
        ends = [s for s in (self.prefilling.last(), self.decoding.last()) if s is not None]
        return max(ends, key=lambda state: state.order) if ends else None

    def of(self, phase: Phase) -> OrderedRequests:
        """The list of that phase."""
        if phase is Phase.WAITING:
            return self.waiting
        return self.decoding if phase is Phase.DECODE else self.prefilling


class Lanes:
    """Both lanes, and the slots that they share."""

    def __init__(
        self, interactive: Admission, backfill: Admission, num_slots: int, kv: KVCacheManager
    ) -> None:
        self.interactive = Lane(interactive)
        self.backfill = Lane(backfill)
        self.free_slots = list(range(num_slots - 1, -1, -1))
        self.preempted: list[RequestState] = []
        """Since the last step was planned."""
        self.preemptions = 0
        self._kv = kv
        self._no_changes: Sequence[Sequence[tuple[int, int]]] = tuple(() for _ in kv.pools)

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return self.interactive.num_running + self.backfill.num_running

    @property
    def num_waiting(self) -> int:
        """Requests that hold none."""
        return len(self.interactive.waiting) + len(self.backfill.waiting)

    def lane(self, state: RequestState) -> Lane:
        """The lane that a request keeps to."""
        return self.backfill if state.request.backfill else self.interactive

    def last_running(self) -> RequestState:
        """The last in the order of all that run: backfill comes after everybody else."""
        last = self.backfill.last_running() or self.interactive.last_running()
        assert last is not None, "somebody runs"
        return last

    def backfill_of(self, kv: KVSequence | None) -> RequestState | None:
        """The running backfill request with that sequence, if it is one."""
        return next((s for s in self.backfill.running() if s.kv is kv), None)

    def take_slot(self, state: RequestState, now: float) -> None:
        """A waiting request starts to run."""
        lane = self.lane(state)
        lane.waiting.remove(state)
        lane.prefilling.add(state)
        state.slot = self.free_slots.pop()
        state.enter(Phase.PREFILL, now)

    def begin_decoding(self, state: RequestState, now: float) -> None:
        """A prompt is whole."""
        lane = self.lane(state)
        lane.prefilling.remove(state)
        lane.decoding.add(state)
        state.enter(Phase.DECODE, now)
        state.limit = min(state.kv.capacity, state.max_len - 1)
        state.chunk = ScheduledChunk(
            state.request.request_id, state.slot, 0, [0], True, self._no_changes,
            backfill=state.request.backfill,
        )  # fmt: skip

    def wait_again(self, state: RequestState, now: float) -> None:
        """A running request loses slot and blocks, and waits in its old place of the order."""
        self._give_up(state)
        state.enter(Phase.WAITING, now)
        self.lane(state).waiting.add(state)

    def preempt(self, state: RequestState, now: float) -> None:
        """The same, because another one needs its room: it computes its tokens again later."""
        self.wait_again(state, now)
        state.timings.preemptions += 1
        self.preemptions += 1
        self.preempted.append(state)

    def remove(self, state: RequestState) -> None:
        """A request is over."""
        if state.phase is Phase.WAITING:
            self.lane(state).waiting.remove(state)
        else:
            self._give_up(state)
        self.lane(state).admission.ended(state)

    def no_changes(self) -> Sequence[Sequence[tuple[int, int]]]:
        """Of a chunk whose block tables are as they were."""
        return self._no_changes

    def _give_up(self, state: RequestState) -> None:
        self.lane(state).of(state.phase).remove(state)
        self._kv.free(state.kv)
        self.free_slots.append(state.slot)
        state.slot, state.chunk = -1, NO_CHUNK
        state.num_computed = state.limit = 0
