"""Who is over time: a heap of deadlines. Not here: what happens then (scheduler.py)."""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

Alive = Callable[[str, int], bool]
"""Whether the request of that id and arrival number is still in the system."""


class Deadlines:
    """Of all requests that have one; those that ended otherwise are passed over."""

    def __init__(self, alive: Alive) -> None:
        self._alive = alive
        self._heap: list[tuple[float, int, str]] = []

    def add(self, deadline: float, arrival: int, request_id: str) -> None:
        """A request has one."""
        heappush(self._heap, (deadline, arrival, request_id))

    def passed(self, now: float) -> Iterator[str]:
        """Requests that are alive and over time, each once."""
        while self._heap and self._heap[0][0] <= now:
            _, arrival, request_id = heappop(self._heap)
            if self._alive(request_id, arrival):
                yield request_id

    def prune(self, live: int) -> None:
        """Deadlines of requests that are over would pile up until they pass. `live` are not."""
        if len(self._heap) > 2 * live + 64:
            self._heap = [entry for entry in self._heap if self._alive(entry[2], entry[1])]
            heapify(self._heap)
