"""How many tasks may be in the engine at once: as many as its KV cache holds to their ends.

Pure. A request that has to be preempted is computed twice; so the rooms that all of them may come
to need, as far as earlier answers tell, stay below what there is. What neighbours share counts
once. Not here: the order (order.py), slots (the engine's own queue).
"""

from collections import deque
from collections.abc import Sequence

BLOCK = 32
"""Tokens that the KV cache gives out at a time."""

REMEMBERED = 256
SURE = 0.95
"""The part of earlier answers that the guess of an answer's length covers."""


class Lengths:
    """How much of their max_tokens answers use."""

    def __init__(self) -> None:
        self._shares: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, tokens: int, most: int) -> None:
        """An answer of `tokens`, of `most` that it could have had."""
        self._shares.append(min(1.0, tokens / max(1, most)))

    def expected(self, most: int) -> int:
        """Tokens that nearly every answer stays below; all of `most` before anything is known."""
        if len(self._shares) < 16:
            return most
        ranked = sorted(self._shares)
        return max(1, round(most * ranked[min(len(ranked) - 1, int(SURE * len(ranked)))]))


class KVRoom:
    """Of the tasks in the engine. `capacity` in tokens; 0 is without bounds."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._held: dict[int, int] = {}
        self._last: tuple[int, Sequence[int]] = (-1, ())

    def admit(self, ticket: int, prompt: Sequence[int], output: int) -> bool:
        """Take in a task of these tokens, if it fits. The first one always does."""
        last, before = self._last
        shared = common(prompt, before) // BLOCK * BLOCK if last in self._held else 0
        wanted = -(-(len(prompt) + output) // BLOCK) * BLOCK - shared
        if self._held and self._capacity and self._used + wanted > self._capacity:
            return False
        self._held[ticket] = wanted
        self._used += wanted
        self._last = (ticket, prompt)
        return True

    def leave(self, ticket: int) -> None:
        """The task has ended."""
        self._used -= self._held.pop(ticket)

    def __len__(self) -> int:
        return len(self._held)


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    most = min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle
    return low
