"""What strategies have gained where they were measured: generated from records.

Not here: measuring (benchmarks/), the records (docs/results).
"""

from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("measured.json")


class Gain(msgspec.Struct, frozen=True):
    """On over off, more is better; 1 is no difference."""

    workload: str
    times: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy's gains, in the order of what was varied."""

    strategy: str
    metric: str
    gains: tuple[Gain, ...]
    break_even: str
    """Where it begins to pay, or stops to; empty where one side was seen only."""
    record: str
    machine: str
    commit: str
    date: str

    @property
    def best(self) -> Gain:
        """Where it shines."""
        return max(self.gains, key=lambda gain: gain.times)

    @property
    def worst(self) -> Gain:
        """Where it does not."""
        return min(self.gains, key=lambda gain: gain.times)


@cache
def measured() -> tuple[Measured, ...]:
    """All that is known, several for a strategy that was measured in several ways."""
    if not FILE.is_file():
        return ()
    return msgspec.json.decode(FILE.read_bytes(), type=tuple[Measured, ...])
