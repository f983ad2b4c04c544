"""What a step of so many rows takes on this machine: measured at the start, followed ever since.

Not here: running the model (speculator.py measures), deciding by it (choice.py).
"""

from bisect import bisect_left

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Counts of rows that are measured; between them costs are interpolated."""

FADE = 0.95


class StepCost:
    """Seconds of a step by its rows: a curve that never falls, times what steps take lately.

    The curve is that of short contexts. What longer ones and a busier machine cost on top is alike
    for all rows of a step, and is followed as one number.
    """

    def __init__(self, rows: list[int], seconds: list[float]) -> None:
        """`seconds` for each of the increasing `rows`."""
        assert rows and len(rows) == len(seconds)
        self._rows = rows
        self._seconds: list[float] = []
        for taken in seconds:
            self._seconds.append(max(taken, self._seconds[-1] if self._seconds else 0.0))
        self._extra = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        """A step of `rows` has taken that long."""
        extra = max(0.0, seconds - self.curve(rows))
        self._extra = self._extra * FADE + extra * (1 - FADE)

    def seconds(self, rows: int) -> float:
        """Expected of a step of `rows`."""
        return self.curve(rows) + self._extra

    def curve(self, rows: int) -> float:
        """Of the rows alone."""
        at, known = self._rows, self._seconds
        i = bisect_left(at, rows)
        if i == 0:
            return known[0]
        if i == len(at):
            return known[-1] * rows / at[-1]
        part = (rows - at[i - 1]) / (at[i] - at[i - 1])
        return known[i - 1] + part * (known[i] - known[i - 1])
