"""The bracket finds a noisy server's limit in few runs, and is not fooled by one lucky pass."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.tuner.bracket import Bracket, BracketPlan, BracketResult


def found(plan: BracketPlan, passes: Callable[[float], bool]) -> BracketResult:
    bracket = Bracket(plan)
    while (load := bracket.ask()) is not None:
        assert plan.lowest <= load <= plan.highest
        bracket.tell(load, passes(load))
    return bracket.result()


@settings(deadline=None)
@given(st.floats(0.01, 1e4), st.floats(0.1, 1000))
def test_an_exact_limit_is_bracketed(limit: float, start: float) -> None:
    result = found(BracketPlan(start=start, max_runs=80), lambda load: load <= limit)
    assert result.converged and result.monotone
    assert result.passing is not None and result.failing is not None
    assert result.passing <= limit < result.failing <= result.passing * 1.0501


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 300))
def test_whole_loads_stay_whole(limit: int, start: int) -> None:
    plan = BracketPlan(start=start, whole=True, tolerance=0.001, max_runs=80)
    result = found(plan, lambda load: load == int(load) and load <= limit)
    assert (result.passing, result.failing) == (limit, limit + 1)


def test_limits_out_of_range_are_told_apart() -> None:
    plan = BracketPlan(start=4, lowest=1, highest=64)
    above, below = found(plan, lambda load: True), found(plan, lambda load: False)
    assert (above.passing, above.failing, above.converged) == (64, None, True)
    assert (below.passing, below.failing, below.converged) == (None, 1, True)


@pytest.mark.parametrize("width", [0.02, 0.05])
def test_noisy_servers(width: float) -> None:
    """The verdict of one run is a coin near the limit: a normal of `width` on the log scale."""
    errors, runs = [], []
    for seed in range(300):
        rng = random.Random(seed)
        limit = rng.uniform(5, 200)
        result = found(
            BracketPlan(start=4, max_runs=40),
            lambda load, r=rng, top=limit: math.log(load / top) < r.gauss(0, width),
        )
        assert result.converged
        assert result.passing is not None
        errors.append(abs(math.log(result.passing / limit)))
        runs.append(result.runs)
    errors.sort()
    assert errors[270] < 0.05 + 1.5 * width
    assert sum(runs) / len(runs) < 20


def test_a_lucky_pass_above_a_failure_is_looked_at_again() -> None:
    bracket = Bracket(BracketPlan(start=10))
    bracket.tell(10, True)
    bracket.tell(20, False)
    bracket.tell(40, True)
    asked = []
    for _ in range(4):
        load = bracket.ask()
        assert load is not None
        asked.append(load)
        bracket.tell(load, load <= 15)
    assert asked[:2] == [20, 40]
    assert bracket.result().monotone


def test_one_bad_run_on_the_way_up_does_not_stop_it() -> None:
    bad = iter([True, False])
    result = found(BracketPlan(start=1), lambda load: next(bad, load <= 1.9 or load > 2.1))
    assert result.runs <= 40
    glitch = iter([False])
    result = found(BracketPlan(start=8), lambda load: next(glitch, load <= 100))
    assert result.passing is not None and result.passing > 90


def test_a_hole_is_believed_and_reported() -> None:
    """Loads from 20 to 25 fail, again and again, and those above pass: the lower limit counts."""

    def server(load: float) -> bool:
        return load < 20 or 25 < load < 50

    bracket = Bracket(BracketPlan(start=10, max_runs=60))
    for load in (10.0, 22.0, 40.0):  # of before a resume, say
        bracket.tell(load, server(load))
    asked: list[float] = []
    while (load := bracket.ask()) is not None:
        asked.append(load)
        bracket.tell(load, server(load))
    assert {22.0, 40.0} <= set(asked), "neither is believed at first sight"
    result = bracket.result()
    assert result.converged and not result.monotone
    assert result.passing is not None and result.failing is not None
    assert result.passing < 20 <= result.failing <= result.passing * 1.0501


def test_runs_are_limited() -> None:
    result = found(BracketPlan(start=1, max_runs=3), lambda load: load < 1000)
    assert (result.runs, result.converged) == (3, False)


@pytest.mark.parametrize(
    "plan", [{"start": 0}, {"growth": 1}, {"tolerance": 0}, {"highest": 0.5}, {"confirm": 0}]
)
def test_plans_that_cannot_work_are_refused(plan: dict) -> None:
    with pytest.raises(ConfigError):
        BracketPlan(**plan)
