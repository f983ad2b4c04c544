"""In which order a window of tasks runs: those that share a beginning together, long ones first.

Pure. Neighbours with a common prefix find it in the prefix cache before it has to go; and what
takes longest begins first, so that a job does not end with one long answer alone. Not here: how
many run at once (admission.py).
"""

from collections.abc import Sequence
from typing import Protocol

SHARED = 256
"""Characters that prompts must begin with alike to belong together: some 64 tokens, two blocks."""


class Ordered(Protocol):
    """What decides about a task's place."""

    @property
    def prefix(self) -> str:
        """The prompt as text."""
        ...

    @property
    def size(self) -> int:
        """How long it is, about."""
        ...


def order(tasks: Sequence[Ordered]) -> list[int]:
    """Places of `tasks` in the order in which to run them: each once.

    Groups of a common prefix come one after another, the one with the longest task first; within a
    group the prefixes that go on alike stay together.
    """
    by_text = sorted(range(len(tasks)), key=lambda i: tasks[i].prefix)
    groups: list[list[int]] = []
    for i in by_text:
        begins = tasks[groups[-1][-1]].prefix[:SHARED] if groups else ""
        if groups and len(begins) == SHARED and tasks[i].prefix.startswith(begins):
            groups[-1].append(i)
        else:
            groups.append([i])
    groups.sort(key=lambda group: -max(tasks[i].size for i in group))
    return [i for group in groups for i in group]
