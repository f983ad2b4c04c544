"""What a step of so many rows takes on this machine: measured at the start, followed ever since.

Not here: running the model (speculator.py measures), deciding by it (choice.py).
"""

from bisect import bisect_left

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Counts of rows that are measured; between them costs are interpolated."""

FADE = 0.98
"""What a step is worth for the fit after the next one."""

STIFFNESS = 0.02
"""How far rows must have differed lately, as a part of their cost, for the fit to trust a slope."""

LEAST = 0.2
"""Of the curve: no fit says that a step takes less."""


class StepCost:
    """Seconds of a step by its rows: a curve that never falls, fitted to what steps take lately.

    The curve is that of short contexts and greedy rows; lately it took `slope * curve + extra`.
    Longer contexts and a busier machine are alike for all rows of a step, while sampling costs more
    with every row.
    """

    def __init__(self, rows: list[int], seconds: list[float]) -> None:
        """`seconds` for each of the increasing `rows`."""
        assert rows and len(rows) == len(seconds)
        self._rows = rows
        self._seconds: list[float] = []
        for taken in seconds:
            self._seconds.append(max(taken, self._seconds[-1] if self._seconds else 0.0))
        self._known: dict[int, float] = {}
        self._weight = self._curve = self._taken = self._square = self._product = 0.0
        self._slope, self._extra = 1.0, 0.0

    def learn(self, rows: int, seconds: float) -> None:
        """A step of `rows` has taken that long."""
        curve = self.curve(rows)
        # Whatever stopped the machine for a moment was not the rows.
        seconds = min(seconds, 3 * self.seconds(rows))
        for name, value in (("_weight", 1.0), ("_curve", curve), ("_taken", seconds),
                            ("_square", curve * curve), ("_product", curve * seconds)):  # fmt: skip
            setattr(self, name, getattr(self, name) * FADE + value)
        mean, taken = self._curve / self._weight, self._taken / self._weight
        spread = self._square / self._weight - mean * mean
        both = self._product / self._weight - mean * taken
        stiff = (STIFFNESS * mean) ** 2
        self._slope = max(0.0, (both + stiff) / (spread + stiff)) if stiff else 1.0
        self._extra = taken - self._slope * mean

    def seconds(self, rows: int) -> float:
        """Expected of a step of `rows`."""
        curve = self.curve(rows)
        return max(LEAST * curve, self._slope * curve + self._extra)

    def curve(self, rows: int) -> float:
        """Of the rows alone."""
        found = self._known.get(rows)
        if found is None:
            found = self._known[rows] = self._between(rows)
        return found

    def _between(self, rows: int) -> float:
        at, known = self._rows, self._seconds
        i = bisect_left(at, rows)
        if i == 0:
            return known[0]
        if i == len(at):
            return known[-1] * rows / at[-1]
        part = (rows - at[i - 1]) / (at[i] - at[i - 1])
        return known[i - 1] + part * (known[i] - known[i - 1])
