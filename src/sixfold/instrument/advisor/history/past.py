"""Records of an engine's history: replicas, their busiest and quiet stretches, trends, notes.

Not here: taking them (prometheus.py), what follows from a window (evidence.py).
"""

import re
from collections.abc import Iterator

import msgspec

from sixfold.instrument.advisor.window import Window

MAX_TEXT = 160


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time. Seconds since the epoch by the server's clock."""

    start: int
    end: int
    load: float | None = None
    """Its mean load over all replicas, in the unit that Past.load_by names."""


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """A least-squares line through the means of steps; which metrics: the key in Past.trends.

    A correlation only: what else changed at the same time is not taken out.
    """

    n: int
    """Steps."""
    slope: float
    """Seconds per token of context, or per request."""
    intercept: float
    r2: float
    low: float
    high: float
    """Of the horizontal values: least and greatest."""

    @property
    def ratio(self) -> float | None:
        """The line at `high` over the line at `low`; None where the latter is not above 0."""
        base = self.intercept + self.slope * self.low
        return (self.intercept + self.slope * self.high) / base if base > 0 else None


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One server of the history."""

    name: str
    """Its `instance` label."""
    job: str
    engine: str
    model: str
    """Empty where the engine does not tell."""
    share: float
    """Of the steps in which any replica was scraped, those in which this one was: 0 to 1."""
    restarts: int
    """How often its counters began anew within the whole window; 0 where they are not sound."""
    whole: Window
    peak: Window | None
    """Over Past.peak, the same for all replicas; None where it was not there for most of it."""
    quiet: Window | None


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a Prometheus knows of the replicas of one model on one engine."""

    engine: str
    """sixfold, vllm, sglang or llamacpp."""
    model: str
    whole: Span
    step: int
    """Seconds between the values of a series."""
    load_by: str
    """What the peak was found by, in words; empty where nothing tells."""
    peak: Span | None
    """The busiest stretch."""
    quiet: Span | None
    """A stretch with little load per replica, but some: the tenth percentile of those with any."""
    replicas: tuple[Replica, ...]
    """By name; in `whole`, gauges are means of steps, in the others of quarters of a step."""
    trends: dict[str, Trend | None]
    """Keys of trends.TRENDS; None where too few steps tell."""
    notes: tuple[str, ...]
    """What is missing, doubtful, or was left out; a line each."""


class Grid(msgspec.Struct, frozen=True):
    """Steps of equal length; the value of a step stands at its end."""

    start: int
    step: int
    count: int

    @property
    def first(self) -> int:
        """The time of the first value."""
        return self.start + self.step

    @property
    def end(self) -> int:
        """The time of the last value."""
        return self.start + self.step * self.count

    def index(self, time: float) -> int | None:
        """The step whose value stands at that time; None for a time between or outside."""
        if not self.start < time < self.end + 1:
            return None
        place = round((time - self.start) / self.step)
        off = abs(self.start + place * self.step - time)
        return place - 1 if off <= 0.5 and 1 <= place <= self.count else None

    def pieces(self, size: int) -> Iterator["Grid"]:
        """The same in pieces of at most `size` steps."""
        for at in range(0, self.count, size):
            yield Grid(self.start + at * self.step, self.step, min(size, self.count - at))

    def span(self, first: int, width: int, load: float | None = None) -> Span:
        """`width` steps from the one of index `first`."""
        start = self.start + first * self.step
        return Span(start=start, end=start + width * self.step, load=load)


def plain(text: object, limit: int = MAX_TEXT) -> str:
    """Text of a server on one line, without what would steer a terminal, and not too long."""
    line = re.sub(r"\s+", " ", str(text)[: 4 * limit])
    shown = "".join(char if char.isprintable() else "?" for char in line).strip()
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def duration(seconds: float) -> str:
    """In words: "45 s", "10 min", "24 h", "3 d"."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def listed(names: list[str], most: int = 3) -> str:
    """The first few, and how many more."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
