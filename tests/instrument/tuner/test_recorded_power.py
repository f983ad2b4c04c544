"""Calls on real repeats: few false ones, most true gains; and on made ones, so that it is known."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import grids
import power


def test_real_repeats_give_few_false_calls_and_most_true_gains() -> None:
    if not power.FILE.is_file():
        pytest.skip("no repeats were recorded yet: benchmarks/power.py")
    values, same, better = power.judged(grids.read(power.FILE))
    assert len(values) >= power.LEAST
    assert same.gain + same.worse <= power.FALSE_CALLS
    assert better.gain >= power.POWER


@pytest.mark.parametrize("lower", [False, True])
def test_quiet_runs_with_drift_are_judged_rightly(lower: bool) -> None:
    rng = random.Random(4)
    values = [100 * (1 + i / 400) * rng.gauss(1, 0.015) for i in range(48)]
    same = power.calls(values, 1.0, lower, 400)
    better = power.calls(values, 1 / 1.1 if lower else 1.1, lower, 400)
    assert same.gain + same.worse <= 0.05
    assert better.gain >= 0.8 and better.worse == 0 and 3 <= better.pairs <= 6
    worse = power.calls(values, 1.1 if lower else 1 / 1.1, lower, 400)
    assert worse.worse >= 0.8
    assert power.calls(values, 1.0, lower, 50) == power.calls(values, 1.0, lower, 50)
