"""Who goes first, and who may get in: orders of requests and admission policies.

Not here: whether there is room (kvcache), the token budget (scheduler.py).
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from operator import attrgetter

from sixfold.core.request import EngineRequest
from sixfold.engine.scheduler.state import RequestState

Order = Callable[[EngineRequest], int]

ORDERS: dict[str, Order] = {
    "fcfs": lambda request: 0,
    "priority": lambda request: request.priority,
}
"""Policy name -> the number that comes before the arrival order; lower goes first."""

_by_order = attrgetter("order")


class OrderedRequests:
    """Requests sorted by `order`. A sorted list: ends are cheap, and so is the rest up to 10^5."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[RequestState] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[RequestState]:
        """In order. Removing the last one meanwhile is allowed."""
        return iter(self._items)

    def __getitem__(self, index: int) -> RequestState:
        return self._items[index]

    def add(self, state: RequestState) -> None:
        """Put it in its place."""
        insort(self._items, state, key=_by_order)

    def remove(self, state: RequestState) -> None:
        """Take it out; it must be there."""
        index = bisect_left(self._items, state.order, key=_by_order)
        assert self._items[index] is state
        del self._items[index]

    def last(self) -> RequestState | None:
        """The one that goes last, if any."""
        return self._items[-1] if self._items else None


class Admission(ABC):
    """Which waiting requests may start. Told of each step's beginning and of each end."""

    @abstractmethod
    def begin_step(self, waiting: OrderedRequests, now: float) -> None:
        """A new step looks at the waiting requests."""

    @abstractmethod
    def admits(self, state: RequestState) -> bool:
        """May it start in this step?"""

    @abstractmethod
    def ended(self, state: RequestState) -> None:
        """It has left the system."""


class ContinuousBatching(Admission):
    """Whoever is next, as soon as there is room (Yu et al., Orca, 2022)."""

    def begin_step(self, waiting: OrderedRequests, now: float) -> None:
        """Nothing to prepare."""

    def admits(self, state: RequestState) -> bool:
        """Always."""
        return True

    def ended(self, state: RequestState) -> None:
        """Nothing to note."""


class BatchAtATime(Admission):
    """Form a batch of up to `max_num_seqs`, run all of it to its end, then the next.

    Static batching, the baseline, takes whoever is there. With a delay it is dynamic, as in
    Triton's batcher: it waits until the batch is full, or its first request has waited so long.
    Members start step by step as the token budget allows, but nobody joins them.
    """

    def __init__(self, max_num_seqs: int, max_delay: float) -> None:
        self._size = max_num_seqs
        self._delay = max_delay
        self._members: set[RequestState] = set()

    def begin_step(self, waiting: OrderedRequests, now: float) -> None:
        """Form a batch if the last one is over."""
        if self._members:
            return
        full = len(waiting) >= self._size
        if full or now - min(state.stamp for state in waiting) >= self._delay:
            self._members.update(waiting[i] for i in range(min(self._size, len(waiting))))

    def admits(self, state: RequestState) -> bool:
        """Members only."""
        return state in self._members

    def ended(self, state: RequestState) -> None:
        """The batch gets smaller; its place stays empty."""
        self._members.discard(state)


def make_admission(batching: str, max_num_seqs: int, max_delay: float) -> Admission:
    """The policy of `SchedulerConfig.batching`; `max_delay` in seconds, of dynamic batches."""
    if batching == "continuous":
        return ContinuousBatching()
    return BatchAtATime(max_num_seqs, max_delay if batching == "dynamic" else 0.0)
