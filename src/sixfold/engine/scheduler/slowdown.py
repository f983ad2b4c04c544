"""How much worse interactive requests may fare because of backfill, and how they do. Pure.

Not here: what a step may hold because of it (backfill.py).
"""

import math
from collections import deque

from sixfold.core.metrics import percentile

PERCENT = 95.0
KEPT = 200
"""Requests that a percentile is taken of."""
ENOUGH = 20
"""Below so many it says nothing."""


class Latency:
    """One latency of interactive requests: as it would be alone, its limit, and what is lent.

    `scale` says how much is lent. A request that backfill has pushed beyond the limit lowers it;
    one that is within it, though alone it would be among the slowest twentieth, raises it as much.
    So it rests where as many are beyond the limit as would be beyond the percentile alone. What
    makes requests slow with and without backfill, such as a burst of them, moves nothing.
    """

    def __init__(self, slowdown: float, scale: float, gain: float) -> None:
        """`scale` to begin with, 0 to 1; `gain`: how far one request moves it."""
        self.scale = scale
        self.limit = 0.0
        """Seconds that one request in twenty may exceed; 0 while it is not known."""
        self._slowdown = slowdown
        self._gain = gain
        self._slow = 0.0
        """The percentile alone, rather too low than too high."""
        self._alone: deque[float] = deque(maxlen=KEPT)

    @property
    def known(self) -> bool:
        """Enough requests were seen."""
        return self.limit > 0.0

    @property
    def margin(self) -> float:
        """Twice the seconds by which the percentile may get worse."""
        return 2.0 * (self.limit - self._slow)

    def take(self, measured: float, alone: float) -> None:
        """A request had `measured` seconds; without backfill they would have been `alone`."""
        alone = min(measured, max(0.0, alone))
        if self.known:
            move = (alone > self._slow) - (measured > self.limit)
            self.scale = max(0.0, min(1.0, self.scale + self._gain * move))
        self._alone.append(alone)
        if len(self._alone) >= ENOUGH:
            self._slow = percentile(self._alone, surely(PERCENT, len(self._alone)))
            self.limit = (1.0 + self._slowdown) * self._slow


def surely(percent: float, count: int) -> float:
    """A percentile of `count` samples that is no higher than `percent` of all, but for luck.

    By one standard error: most requests end up close to the limit, so that each time it is taken
    for too high would show.
    """
    part = percent / 100.0
    return 100.0 * max(0.0, part - math.sqrt(part * (1.0 - part) / count))


class StepShare:
    """A clock of what something takes of steps: it runs as fast as its share of a step is."""

    def __init__(self) -> None:
        self._total = 0.0
        self._began = 0.0
        self._ended: float | None = 0.0
        self._share = 0.0

    def at(self, now: float) -> float:
        """Seconds taken up to `now`, which is not before the last step."""
        end = now if self._ended is None else min(now, self._ended)
        return self._total + self._share * max(0.0, end - self._began)

    def step(self, began: float, share: float) -> None:
        """A step that began then is run; of its time it takes `share`, 0 to 1."""
        self._total = self.at(began)
        self._began, self._share, self._ended = began, share, None

    def pause(self, ended: float) -> None:
        """The step was over then."""
        self._ended = ended
