"""What a server's own histogram of seconds gained over a run: its mean, and quantiles in between.

A quantile is interpolated within its bucket, as Prometheus does it, so it is as fine as the buckets
are. Not here: reading a page (backends/scrape.py).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from sixfold.instrument.backends.scrape import Histogram

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
STATISTICS = ("mean", *QUANTILES)


def gained(readings: Sequence[Histogram | None]) -> Histogram | None:
    """Growth from the first reading to the last; None where nothing was observed.

    Summed over pairs of readings, so that a restart between two costs one pair only.
    """
    total, count = 0.0, 0.0
    buckets: dict[float, float] = {}
    for before, after in pairwise(readings):
        if before is None or after is None:
            continue
        old = before if after.count >= before.count else Histogram(0.0, 0.0, {})
        total += after.sum - old.sum
        count += after.count - old.count
        for bound, value in after.buckets.items():
            grown = value - old.buckets.get(bound, 0.0)
            buckets[bound] = buckets.get(bound, 0.0) + grown
    return Histogram(total, count, dict(sorted(buckets.items()))) if count > 0 else None


def statistics(found: Histogram) -> dict[str, float]:
    """Mean and quantiles in seconds; a quantile above the last bound is not known, so left out."""
    values = {name: quantile(found, part) for name, part in QUANTILES.items()}
    known = {name: value for name, value in values.items() if value is not None}
    return {"mean": found.sum / found.count} | known


def quantile(found: Histogram, part: float) -> float | None:
    """The value that `part` (0 to 1) of the observations are not above; None: not known."""
    wanted = part * found.count
    low, below = 0.0, 0.0
    for bound, count in found.buckets.items():
        if count >= wanted and count > below:
            inside = (wanted - below) / (count - below)
            return low + inside * (bound - low) if math.isfinite(bound) else None
        low, below = bound, count
    return None
