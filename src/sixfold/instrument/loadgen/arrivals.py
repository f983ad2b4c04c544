"""When sessions arrive, in an open loop: seconds from the start, a pure function of a config.

Not here: waiting for those times (run.py). A closed loop has no arrivals, it has a concurrency.
"""

import math
import random
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Literal

import msgspec

from sixfold.core.errors import ConfigError


class Arrivals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arrival process; made by the functions below. Raises ConfigError for impossible values.

    Rates are in sessions per second.
    """

    kind: Literal["gamma", "constant", "ramp", "trace"]
    rate: float = 1.0
    burstiness: float = 1.0
    """Shape of the gamma distribution of gaps: 1 is Poisson, less is burstier, more is steadier."""
    rate_to: float = 1.0
    """Where a ramp from `rate` ends after `seconds`; it goes on at this rate."""
    seconds: float = 1.0
    trace: tuple[float, ...] = ()
    """Times in seconds from the start. Empty: each session's own `at`."""
    speedup: float = 1.0
    """What the times of a trace are divided by."""
    seed: int = 0

    def __post_init__(self) -> None:
        lowest_rate = 0.0 if self.kind == "ramp" else None
        _require("rate", self.rate, lowest_rate)
        _require("burstiness", self.burstiness)
        _require("rate_to", self.rate_to)
        _require("seconds", self.seconds)
        _require("speedup", self.speedup)
        if any(not (math.isfinite(t) and t >= 0) for t in self.trace):
            raise ConfigError("a time of the trace is below 0 or no number", "count from the start")
        if any(after < before for before, after in zip(self.trace, self.trace[1:], strict=False)):
            raise ConfigError("the trace's times are not in order", "sort it by time")


def poisson(rate: float, seed: int = 0) -> Arrivals:
    """Arrivals that know nothing of each other, `rate` per second."""
    return Arrivals(kind="gamma", rate=rate, seed=seed)


def gamma(rate: float, burstiness: float, seed: int = 0) -> Arrivals:
    """Gaps of mean 1 / `rate` seconds and coefficient of variation 1 / sqrt(`burstiness`)."""
    return Arrivals(kind="gamma", rate=rate, burstiness=burstiness, seed=seed)


def constant(rate: float) -> Arrivals:
    """One every 1 / `rate` seconds, the first at once."""
    return Arrivals(kind="constant", rate=rate)


def ramp(rate_from: float, rate_to: float, seconds: float, seed: int = 0) -> Arrivals:
    """A Poisson process whose rate moves linearly within `seconds`, and then stays."""
    return Arrivals(kind="ramp", rate=rate_from, rate_to=rate_to, seconds=seconds, seed=seed)


def replay(trace: tuple[float, ...] = (), speedup: float = 1.0) -> Arrivals:
    """The times of a trace, `speedup` times as fast."""
    return Arrivals(kind="trace", trace=trace, speedup=speedup)


def arrival_times(arrivals: Arrivals, count: int) -> list[float]:
    """The first `count` times, in seconds from the start, ascending; the same for the same seed.

    Raises ConfigError where a trace is shorter than that.
    """
    if arrivals.kind == "trace":
        return _trace_times(arrivals, count)
    if arrivals.kind == "constant":
        return [i / arrivals.rate for i in range(count)]
    rng = random.Random(arrivals.seed)
    if arrivals.kind == "gamma":
        scale = 1 / (arrivals.rate * arrivals.burstiness)
        gaps = (rng.gammavariate(arrivals.burstiness, scale) for _ in range(count))
        return list(accumulate(gaps))
    return list(islice(_ramp_times(arrivals, rng), count))


def _trace_times(arrivals: Arrivals, count: int) -> list[float]:
    trace = arrivals.trace
    if len(trace) < count:
        raise ConfigError(
            f"the trace has {len(trace)} arrivals for {count} sessions",
            "send fewer sessions or give a longer trace",
        )
    return [t / arrivals.speedup for t in trace[:count]]


def _ramp_times(arrivals: Arrivals, rng: random.Random) -> Iterator[float]:
    """Unit-rate arrivals, mapped through the inverse of the expected number by each time."""
    low, high, seconds = arrivals.rate, arrivals.rate_to, arrivals.seconds
    by_the_end = (low + high) / 2 * seconds
    number = 0.0
    while True:
        number += rng.expovariate(1.0)
        if number < by_the_end:
            root = math.sqrt(low * low + 2 * (high - low) / seconds * number)
            yield 2 * number / (low + root)
        else:
            yield seconds + (number - by_the_end) / high


def _require(name: str, value: float, lowest: float | None = None) -> None:
    """Above 0, or from `lowest` on, and finite."""
    if math.isfinite(value) and (value > 0 if lowest is None else value >= lowest):
        return
    bound = "above 0" if lowest is None else f"{lowest:g} or more"
    raise ConfigError(f"{name} of arrivals is {value:g}", f"make it a number {bound}")
