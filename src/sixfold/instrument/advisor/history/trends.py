"""Arithmetic over a history's steps: its busiest and quiet stretches, lines through pairs of means.

Pure: what is known comes as mappings from a step's index to a value; a step that is missing is
not known, and never taken for zero. Not here: where the values come from (told.py).
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from sixfold.instrument.advisor.history.past import Trend

TRENDS = {
    "tpot_by_context": ("tpot", "context"),
    "tpot_by_running": ("tpot", "running"),
    "ttft_by_waiting": ("ttft", "waiting"),
}
"""Name -> seconds per step (mean), and what they are held against: tokens per finished request,
requests running, requests waiting."""
LEAST_STEPS = 8
LEAST_REQUESTS = 5
"""Observations in a step, below which its mean says little."""
QUIET = 0.1
Track = Mapping[int, float]


class Stretch(msgspec.Struct, frozen=True):
    """Consecutive steps."""

    first: int
    width: int
    load: float
    """The mean."""

    @property
    def steps(self) -> range:
        """Their indices."""
        return range(self.first, self.first + self.width)


def _stretches(load: Track, width: int) -> Iterator[Stretch]:
    """Every run of `width` consecutive known steps."""
    run: list[float] = []
    last = None
    for step in sorted(load):
        run = [*run, load[step]] if last is not None and step == last + 1 else [load[step]]
        run, last = run[-width:], step
        if len(run) == width:
            yield Stretch(step - width + 1, width, math.fsum(run) / width)


def busiest(load: Track, width: int) -> Stretch | None:
    """The stretch of the greatest mean load, the first of equals; None where there is no load."""
    found = max(_stretches(load, width), key=lambda s: s.load, default=None)
    return found if found is not None and found.load > 0 else None


def quiet(load: Track, peak: Stretch) -> Stretch | None:
    """One with some load, less than the peak's and apart from it: at the tenth percentile."""
    apart = [
        stretch
        for stretch in _stretches(load, peak.width)
        if 0 < stretch.load < peak.load and abs(stretch.first - peak.first) >= peak.width
    ]
    apart.sort(key=lambda stretch: (stretch.load, stretch.first))
    return apart[int(QUIET * (len(apart) - 1))] if apart else None


def line(xs: Sequence[float], ys: Sequence[float]) -> Trend | None:
    """The least-squares line; None for fewer than LEAST_STEPS, or where nothing varies."""
    n = len(xs)
    if n < LEAST_STEPS:
        return None
    x, y = math.fsum(xs) / n, math.fsum(ys) / n
    dx, dy = [value - x for value in xs], [value - y for value in ys]
    across, along = math.fsum(d * d for d in dx), math.fsum(d * d for d in dy)
    both = math.fsum(a * b for a, b in zip(dx, dy, strict=True))
    if across <= 1e-12 * max(1.0, x * x) * n:
        return None
    slope = both / across
    r2 = min(1.0, both * slope / along) if along > 0 else 0.0
    return Trend(n=n, slope=slope, intercept=y - slope * x, r2=r2, low=min(xs), high=max(xs))


def trends(means: Mapping[str, Track]) -> dict[str, Trend | None]:
    """All of TRENDS, over the steps in which both sides are known."""
    found = {}
    for name, (upright, level) in TRENDS.items():
        ys, xs = means.get(upright, {}), means.get(level, {})
        both = sorted(ys.keys() & xs.keys())
        found[name] = line([xs[step] for step in both], [ys[step] for step in both])
    return found


def added(tracks: Sequence[Track]) -> dict[int, float]:
    """Their sum, per step over those that know it."""
    total: dict[int, float] = {}
    for track in tracks:
        for step, value in track.items():
            total[step] = total.get(step, 0.0) + value
    return total


def mean_of(pairs: Sequence[tuple[Track, Track]]) -> dict[int, float]:
    """Sum over count, per step over all replicas; steps with few observations are left out."""
    sums: dict[int, float] = {}
    counts: dict[int, float] = {}
    for sum_, count in pairs:
        for step in sum_.keys() & count.keys():
            sums[step] = sums.get(step, 0.0) + sum_[step]
            counts[step] = counts.get(step, 0.0) + count[step]
    return {step: sums[step] / n for step, n in counts.items() if n >= LEAST_REQUESTS}
