"""Whether an open-loop run is past what the server can serve: its queue and its TTFT both grow.

Regression slopes over a sliding window, judged by Student's t against a queue that only wanders:
neighbouring seconds of a queue are alike, and plain regression would call every burst a trend.
Pure: times come from the caller. Not here: the load (run.py), what to do about it.
"""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import msgspec

BIN = 1.0
"""Seconds that are averaged into one observation."""
MIN_WINDOW = 30.0
MAX_WINDOW = 60.0
CONFIDENCE = 0.92
"""One-sided, of each of the two slopes. By simulation, with the rest of these: a queue at 80 % load
is called saturated in at most 1 of 100 runs of two minutes, one at 130 % in 97 within a minute."""
MIN_GROWTH = 1.0
"""Of the in-flight count over the window, as a part of its mean: a ramp from zero grows by 2."""
HOLD = 5
"""Verdicts in a row that must agree: a lull or a burst passes."""


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """A regression line. `slope` is per second, `error` its standard error."""

    slope: float
    error: float
    freedom: float
    """Degrees of freedom of `error`."""
    mean: float
    """Of the values."""
    span: float
    """Seconds from the first to the last observation."""

    @property
    def growth(self) -> float:
        """What the line gains over the window, as a part of the mean."""
        return self.slope * self.span / self.mean if self.mean > 0 else 0.0

    def rising(self, confidence: float = CONFIDENCE) -> bool:
        """The slope is above 0 with this one-sided confidence."""
        if self.slope <= 0 or self.freedom <= 0:
            return False
        return self.error <= 0 or student_cdf(self.slope / self.error, self.freedom) >= confidence


def trend(times: Sequence[float], values: Sequence[float]) -> Trend | None:
    """The line through values at ascending times in seconds; None for fewer than 4."""
    count = len(times)
    if count < 4 or times[-1] <= times[0]:
        return None
    at, mean = math.fsum(times) / count, math.fsum(values) / count
    spread = math.fsum((t - at) ** 2 for t in times)
    slope = math.fsum((t - at) * (v - mean) for t, v in zip(times, values, strict=True)) / spread
    span = times[-1] - times[0]
    # A queue at the edge of stability is a random walk: the slope of one over a span of T has the
    # variance 6/5 s^2 / T, where s^2 is the variance that its steps gain per second.
    steps = zip(pairwise(times), pairwise(values), strict=True)
    squares = [((w - v) - slope * (u - t)) ** 2 / (u - t) for (t, u), (v, w) in steps]
    error = math.sqrt(1.2 * math.fsum(squares) / (count - 2) / span)
    return Trend(slope=slope, error=error, freedom=count - 2, mean=mean, span=span)


class Saturation:
    """Watches a run: give it the in-flight count now and then, and the TTFTs as they are known."""

    def __init__(self) -> None:
        self._in_flight = _Bins()
        self._ttft = _Bins()
        self._agreed = 0
        self._judged = -math.inf

    def in_flight(self, at: float, count: int) -> None:
        """Requests on their way at a time in seconds."""
        self._in_flight.add(at, float(count))

    def first_token(self, at: float, ttft: float) -> None:
        """A request's first token came at `at`, `ttft` seconds after the request was sent."""
        self._ttft.add(at, ttft)

    def saturated(self, now: float) -> bool:
        """The verdict, renewed once per BIN; True when it has held for HOLD of them."""
        if now - self._judged >= BIN:
            self._judged = now
            self._agreed = self._agreed + 1 if self._grows(now) else 0
        return self._agreed >= HOLD

    def _grows(self, now: float) -> bool:
        queue, ttft = self._in_flight.trend(now), self._ttft.trend(now)
        if queue is None or ttft is None or queue.span < MIN_WINDOW - 2 * BIN:
            return False
        return queue.growth >= MIN_GROWTH and queue.rising() and ttft.rising()


class _Bins:
    """Means per BIN over the last MAX_WINDOW seconds."""

    def __init__(self) -> None:
        self._bins: deque[tuple[int, float, int]] = deque()

    def add(self, at: float, value: float) -> None:
        number = int(at // BIN)
        for place in range(len(self._bins) - 1, -1, -1):
            own, total, count = self._bins[place]
            if own == number:
                self._bins[place] = (own, total + value, count + 1)
                return
            if own < number:
                self._bins.insert(place + 1, (number, value, 1))
                return
        self._bins.appendleft((number, value, 1))

    def trend(self, now: float) -> Trend | None:
        while self._bins and self._bins[0][0] * BIN < now - MAX_WINDOW:
            self._bins.popleft()
        means = [total / count for _, total, count in self._bins]
        return trend([number * BIN for number, _, _ in self._bins], means)


def student_cdf(t: float, freedom: float) -> float:
    """P(T <= t) of Student's t with `freedom` > 0 degrees, which need not be whole."""
    tail = 0.5 * _beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return 1 - tail if t > 0 else tail


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Its continued fraction, by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d, tiny)
            c = _not_zero(1 + term / c, tiny)
            value *= c * d
        if abs(value - before) <= 1e-14 * abs(value):
            break
    return value


def _not_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
