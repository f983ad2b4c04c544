"""How much worse interactive requests may fare because of backfill, and how they do. Pure.

Not here: what a step may hold because of it (backfill.py).
"""

from collections import deque

from sixfold.core.metrics import percentile

PERCENT = 95.0
KEPT = 200
"""Requests that a percentile is taken of."""
ENOUGH = 20
"""Below so many it says nothing."""


class Latency:
    """One latency of interactive requests: as it would be alone, its limit, and what is lent.

    `scale` follows a percentile by its definition (Robbins and Monro, 1951): it rises a little with
    each request within the limit and falls by 19 times as much with each one beyond it, so that
    it rests where one in twenty is beyond.
    """

    def __init__(self, slowdown: float, scale: float, gain: float) -> None:
        """`scale` to begin with, 0 to 1; `gain`: how far one request moves it."""
        self.scale = scale
        self.limit = 0.0
        """Seconds that one request in twenty may exceed; 0 while it is not known."""
        self._slowdown = slowdown
        self._gain = gain
        self._alone: deque[float] = deque(maxlen=KEPT)

    @property
    def known(self) -> bool:
        """Enough requests were seen."""
        return self.limit > 0.0

    def take(self, measured: float, alone: float) -> None:
        """A request had `measured` seconds; without backfill they would have been `alone`."""
        if self.known:
            beyond = measured > self.limit
            share = 1.0 - PERCENT / 100.0
            move = -(1.0 - share) if beyond else share
            self.scale = max(0.0, min(1.0, self.scale + self._gain * move))
        self._alone.append(min(measured, max(0.0, alone)))
        if len(self._alone) >= ENOUGH:
            self.limit = (1.0 + self._slowdown) * percentile(self._alone, PERCENT)


class LostTime:
    """A clock of the seconds that were lost to backfill: it runs as fast as a step's share is."""

    def __init__(self) -> None:
        self._total = 0.0
        self._began = 0.0
        self._ended: float | None = 0.0
        self._share = 0.0

    def at(self, now: float) -> float:
        """Seconds lost up to `now`, which is not before the last step."""
        end = now if self._ended is None else min(now, self._ended)
        return self._total + self._share * max(0.0, end - self._began)

    def step(self, began: float, share: float) -> None:
        """A step that began then is run; `share` of its time, 0 to 1, is lost."""
        self._total = self.at(began)
        self._began, self._share, self._ended = began, share, None

    def pause(self, ended: float) -> None:
        """Since then nothing is run."""
        self._ended = ended
