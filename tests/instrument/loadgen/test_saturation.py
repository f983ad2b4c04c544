"""Saturation by simulation: a stable queue is let alone, an overloaded one is found."""

import heapq
import random
from collections.abc import Iterator

import pytest

from sixfold.instrument.loadgen.saturation import Saturation, student_cdf, trend

Event = tuple[float, int, float]
"""Time, change of the in-flight count, TTFT or -1."""


def queue(load: float, seed: int, service: float, servers: int) -> Iterator[Event]:
    """An M/M/k queue: arrivals, and ends with what was waited before the first token."""
    rng = random.Random(seed)
    free = [0.0] * servers
    at = 0.0
    events: list[Event] = []
    while True:
        at += rng.expovariate(load * servers / service)
        begin = max(at, heapq.heappop(free))
        end = begin + rng.expovariate(1 / service)
        heapq.heappush(free, end)
        heapq.heappush(events, (at, 1, -1.0))
        heapq.heappush(events, (end, -1, begin - at + rng.uniform(0.02, 0.04)))
        while events and events[0][0] <= at:
            yield heapq.heappop(events)


def flagged(load: float, seed: int, seconds: float, service: float, servers: int) -> float | None:
    """When the run is called saturated, as run.py asks: four times a second; None: never."""
    watch, now, in_flight = Saturation(), 0.0, 0
    for at, change, ttft in queue(load, seed, service, servers):
        while now + 0.25 <= at:
            now += 0.25
            if now > seconds:
                return None
            watch.in_flight(now, in_flight)
            if watch.saturated(now):
                return now
        in_flight += change
        if ttft >= 0:
            watch.first_token(at, ttft)
    raise AssertionError


SHAPES = [(1.0, 8), (5.0, 32), (0.3, 2)]


@pytest.mark.parametrize(("service", "servers"), SHAPES)
def test_a_stable_queue_is_let_alone(service: float, servers: int) -> None:
    found = [s for s in range(100) if flagged(0.8, s, 120.0, service, servers) is not None]
    assert len(found) <= 2


@pytest.mark.parametrize(("service", "servers"), SHAPES)
def test_an_overloaded_queue_is_found_within_a_minute(service: float, servers: int) -> None:
    found = [s for s in range(100) if flagged(1.3, s, 60.0, service, servers) is not None]
    assert len(found) >= 95


def test_student_agrees_with_tables() -> None:
    # Quantiles of the 97.5 % column of any table of t.
    for freedom, t in [(1, 12.706), (2, 4.3027), (10, 2.2281), (30, 2.0423), (1000, 1.9623)]:
        assert student_cdf(t, freedom) == pytest.approx(0.975, abs=2e-5)
        assert student_cdf(-t, freedom) == pytest.approx(0.025, abs=2e-5)
    assert student_cdf(0.0, 3.5) == pytest.approx(0.5)


def test_a_line_has_its_slope_and_noise_has_none() -> None:
    times = [float(n) for n in range(30)]
    line = trend(times, [2 + 0.5 * t for t in times])
    assert line is not None and line.slope == pytest.approx(0.5) and line.rising()
    rng = random.Random(1)
    noise = trend(times, [rng.gauss(5, 1) for _ in times])
    assert noise is not None and not noise.rising()
    assert trend([1.0] * 9, times[:9]) is None and trend([1.0, 2.0], [1.0, 2.0]) is None


def test_a_walk_rises_as_seldom_as_the_confidence_says() -> None:
    rising = 0
    for seed in range(400):
        rng, at, walk = random.Random(seed), 0.0, []
        for _ in range(60):
            at += rng.gauss(0, 1)
            walk.append(at)
        found = trend([float(n) for n in range(60)], walk)
        rising += found is not None and found.rising(0.95)
    assert 5 <= rising <= 40


def test_a_steady_server_and_a_ramp_from_zero_are_no_saturation() -> None:
    watch = Saturation()
    for tick in range(400):
        now = tick / 4
        watch.in_flight(now, min(tick, 200))
        watch.first_token(now, 0.1 + 0.01 * (tick % 7))
        assert not watch.saturated(now)
