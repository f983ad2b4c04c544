"""What the prefix cache says to tiers outside the arena, and what it asks of them. Data only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """A full block of a prefix: it is in `blocks`, one per KV group, as long as nothing runs."""

    digest: bytes
    parent: bytes
    """Of the block before it; empty for a tenant's first."""
    position: int
    """Blocks before it."""
    tokens: bytes
    """Packed."""
    blocks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Load:
    """A block that a tier has, to be brought into `blocks` before the step runs."""

    request_id: str
    digest: bytes
    parent: bytes
    position: int
    tokens: bytes
    blocks: Sequence[int]


class Tier(Protocol):
    """What is outside the arena."""

    def has(self, digest: bytes) -> bool:
        """Whether a block of that digest may be loaded."""
        ...

    def pays(self) -> bool:
        """Whether loading is faster than computing."""
        ...


class Changes:
    """What the prefix cache has gained and lost since it was last asked."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self.evicted: list[Stored] = []

    def take_stored(self) -> list[Stored]:
        """New ones: read them before the next step."""
        found, self.stored = self.stored, []
        return found

    def take_evicted(self) -> list[Stored]:
        """Given away: read them before the next step."""
        found, self.evicted = self.evicted, []
        return found
