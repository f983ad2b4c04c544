"""What a step takes, by what it computes: learned from the steps themselves. Pure.

Not here: what follows from it (backfill.py); the curve that drafting goes by is measured once, for
few rows, and lives in engine/speculative/cost.py.
"""

from typing import NamedTuple

KNEES = (4, 16)
"""Decode rows at which a step may begin to cost more per row: below, weights are read anyway."""

MEMORY = 0.997
"""What a step still counts for after the next one: some 300 steps are remembered."""
TRUSTED = 16
"""Steps after which costs are known well enough to say that one took strangely long."""
SHORTEST = 1e-6
"""Seconds below which no clock tells steps apart."""
OUTLIER = 4.0
"""Deviations further out than so many usual ones are pulled in to there."""


class Work(NamedTuple):
    """What a step computes, of which its time depends."""

    rows: int = 0
    """Tokens of decoding requests."""
    prompt: int = 0
    """Tokens of prompts."""
    context: int = 0
    """Tokens whose keys and values are read: of each chunk, those computed before it."""

    def plus(self, rows: int, prompt: int, context: int) -> "Work":
        """More of it."""
        return Work(self.rows + rows, self.prompt + prompt, self.context + context)


class LearnedCost:
    """Seconds of a step: a weighted least squares fit with weights that are never negative.

    So more work never costs less. Errors count relative to a step's time, since short steps matter
    as much as long ones. What no step has tried yet keeps its old cost.
    """

    def __init__(self) -> None:
        size = len(_features(Work()))
        self._weights = [0.0] * size
        self._gram = [[0.0] * size for _ in range(size)]
        self._moment = [0.0] * size
        self._steps = 0
        self._usual = 0.0
        """Usual deviation, as a part of the time."""

    @property
    def known(self) -> bool:
        """Enough steps were seen to go by it."""
        return self._steps >= TRUSTED

    @property
    def prompt_token(self) -> float:
        """Seconds of one more prompt token."""
        return self._weights[-2]

    def seconds(self, work: Work) -> float:
        """Expected seconds of a step; a step with nothing in it takes none."""
        if not work.rows and not work.prompt:
            return 0.0
        found = zip(self._weights, _features(work), strict=True)
        return sum(weight * feature for weight, feature in found)

    def learn(self, work: Work, seconds: float) -> None:
        """A step with that in it has taken `seconds`."""
        if seconds < SHORTEST or not (work.rows or work.prompt):
            return
        expected = self.seconds(work)
        if self.known and expected > 0.0:
            seconds = self._pulled_in(seconds, expected)
        self._steps += 1
        features = _features(work)
        weight = 1.0 / max(expected, seconds) ** 2
        for i, feature in enumerate(features):
            row = self._gram[i]
            for j, other in enumerate(features):
                row[j] = MEMORY * row[j] + weight * feature * other
            self._moment[i] = MEMORY * self._moment[i] + weight * feature * seconds
        for _ in range(2 if self.known else 16):
            self._descend()

    def _pulled_in(self, seconds: float, expected: float) -> float:
        error = seconds / expected - 1.0
        bound = max(OUTLIER * self._usual, 0.05)
        self._usual += 0.02 * (min(abs(error), 2.0 * bound) - self._usual)
        return expected * (1.0 + max(-bound, min(bound, error)))

    def _descend(self) -> None:
        """One round of coordinate descent; goes on where the last one ended."""
        weights = self._weights
        for i, row in enumerate(self._gram):
            if row[i] > 0.0:
                rest = sum(value * weight for value, weight in zip(row, weights, strict=True))
                weights[i] = max(0.0, weights[i] + (self._moment[i] - rest) / row[i])


def _features(work: Work) -> tuple[float, ...]:
    rows = work.rows
    bends = (float(max(0, rows - knee)) for knee in KNEES)
    return (1.0, float(rows), *bends, float(work.prompt), work.context / 1024)
