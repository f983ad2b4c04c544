"""Arrival processes have the rates and the spread that they are named for."""

import itertools
import math
from statistics import fmean, pstdev
from typing import Any

import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.arrivals import (
    Arrivals,
    arrival_times,
    constant,
    gamma,
    poisson,
    ramp,
    replay,
)  # fmt: skip

COUNT = 20_000


def gaps(arrivals: Arrivals) -> list[float]:
    times = [0.0, *arrival_times(arrivals, COUNT)]
    assert len(times) == COUNT + 1 and times == sorted(times)
    return [after - before for before, after in itertools.pairwise(times)]


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_have_their_mean_and_variation(burstiness: float) -> None:
    found = gaps(gamma(50.0, burstiness, seed=1))
    assert fmean(found) == pytest.approx(1 / 50, rel=0.05)
    assert pstdev(found) / fmean(found) == pytest.approx(1 / math.sqrt(burstiness), rel=0.05)


def test_poisson_counts_vary_as_much_as_their_mean() -> None:
    times = arrival_times(poisson(50.0, seed=2), COUNT)
    counts = [0] * int(times[-1])
    for t in times:
        if int(t) < len(counts):
            counts[int(t)] += 1
    assert fmean(counts) == pytest.approx(50, rel=0.05)
    assert pstdev(counts) ** 2 == pytest.approx(50, rel=0.25)


def test_a_ramp_moves_its_rate() -> None:
    times = arrival_times(ramp(10.0, 100.0, 100.0, seed=3), 9000)
    for a, b in ((0, 20), (40, 60), (80, 100), (110, 130)):
        middle = min((a + b) / 2, 100)
        expected = (10 + 0.9 * middle) * (b - a)
        assert sum(a <= t < b for t in times) == pytest.approx(expected, rel=0.15)
    falling = arrival_times(ramp(100.0, 1.0, 10.0, seed=3), 600)
    assert falling == sorted(falling)
    assert arrival_times(ramp(0.0, 5.0, 10.0), 100)[0] > 0


def test_the_same_seed_gives_the_same_times() -> None:
    for make in (
        lambda seed: poisson(5.0, seed=seed),
        lambda seed: gamma(5.0, 0.5, seed=seed),
        lambda seed: ramp(1.0, 5.0, 9.0, seed=seed),
    ):
        assert arrival_times(make(1), 50) == arrival_times(make(1), 50)
        assert arrival_times(make(1), 50) != arrival_times(make(2), 50)
        assert arrival_times(make(1), 50)[:20] == arrival_times(make(1), 20)


def test_constant_and_trace() -> None:
    assert arrival_times(constant(4.0), 3) == [0.0, 0.25, 0.5]
    assert arrival_times(replay((0.0, 1.0, 4.0), speedup=2.0), 3) == [0.0, 0.5, 2.0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: poisson(0.0),
        lambda: poisson(-1.0),
        lambda: poisson(math.inf),
        lambda: poisson(math.nan),
        lambda: gamma(1.0, 0.0),
        lambda: ramp(-1.0, 1.0, 1.0),
        lambda: ramp(1.0, 0.0, 1.0),
        lambda: ramp(1.0, 1.0, 0.0),
        lambda: replay((1.0, 0.5)),
        lambda: replay((-1.0, 0.5)),
        lambda: replay((0.0, math.nan)),
        lambda: replay((0.0,), speedup=0.0),
    ],
)
def test_impossible_values(wrong: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        wrong()
    assert caught.value.hint
