"""Means and peaks of what is sampled. Not here: sampling (sampler.py), what is sampled."""

import math
from collections.abc import Sequence
from typing import Protocol


class Probe(Protocol):
    """Something to read now and then; it never raises, and notes what it can't read."""

    notes: list[str]

    def read(self) -> None:
        """Take one reading; cheap, since the load's event loop shares the interpreter."""

    def summary(self) -> dict[str, float]:
        """All readings in numbers, units in the names; empty where there was nothing to read."""


class Series:
    """Values by name, as they come."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """One more value; what is no number is left out."""
        if math.isfinite(value):
            self._values.setdefault(name, []).append(value)

    def mean(self, name: str) -> float | None:
        """None for no values."""
        values = self._values.get(name)
        return math.fsum(values) / len(values) if values else None

    def peak(self, name: str) -> float | None:
        """None for no values."""
        return max(self._values.get(name, ()), default=None)

    def rise(self, name: str) -> float | None:
        """Mean of the last quarter less that of the first; None for less than four values."""
        return rise(self._values.get(name, ()))

    def growth(self, name: str) -> float | None:
        """Of a counter, from first to last; None where it was read less than twice or fell."""
        values = self._values.get(name, ())
        grown = values[-1] - values[0] if len(values) > 1 else -1.0
        return grown if grown >= 0 else None


def rise(values: Sequence[float]) -> float | None:
    """Mean of the last quarter less that of the first; None for less than four values."""
    part = len(values) // 4
    return math.fsum(values[-part:]) / part - math.fsum(values[:part]) / part if part else None


def known(**values: float | None) -> dict[str, float]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}
