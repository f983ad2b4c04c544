"""Searches: good picks within a budget on synthetic engines, and honest bookkeeping."""

import random

import pytest

from instrument.tuner.landscapes import LANDSCAPES, Landscape
from sixfold.core.errors import ConfigError
from sixfold.instrument.tuner.halving import HalvingSearch
from sixfold.instrument.tuner.search import Search, SearchPlan
from sixfold.instrument.tuner.space import Parameter, Space, space_of
from sixfold.instrument.tuner.trial import (
    Trial,
    TrialResult,
    Tuner,
    grid_search,
    random_search,
)

SEEDS = range(20)
GRID_REPEATS = 3
SPACE = Space((Parameter("n", (1, 2, 4, 8), ordered=True), Parameter("k", ("a", "b"))))
CONFIGS = SPACE.configurations()


def reached(land: Landscape, budget: int, kind: str) -> list[float]:
    configs = land.space.configurations()
    shares = []
    for seed in SEEDS:
        tuner: Tuner = random_search(configs, budget, seed)
        if kind == "search":
            tuner = Search(configs, land.space, SearchPlan(budget=budget, seed=seed))
        shares.append(land.reached(tuner, seed))
    return shares


def good(shares: list[float]) -> int:
    return sum(share >= 0.97 for share in shares)


@pytest.mark.parametrize("land", LANDSCAPES, ids=lambda land: land.name)
def test_three_tenths_of_the_grids_runs_find_the_best(land: Landscape) -> None:
    """At most 60 runs, which is harder, and keeps the large ones quick."""
    budget = min(60, round(0.3 * GRID_REPEATS * len(land.space.configurations())))
    ours, chance = reached(land, budget, "search"), reached(land, budget, "random")
    assert good(ours) >= 19
    assert good(ours) >= good(chance)


@pytest.mark.parametrize("land", LANDSCAPES, ids=lambda land: land.name)
def test_a_run_of_three_tenths_of_the_configurations_does_too(land: Landscape) -> None:
    """Except for the needle: two thirds of the configurations are never run at this budget."""
    budget = round(0.3 * len(land.space.configurations()))
    ours, chance = reached(land, budget, "search"), reached(land, budget, "random")
    assert good(ours) >= (10 if land.name == "needle" else 19)
    assert good(ours) >= good(chance)
    assert sum(ours) >= sum(chance)


def run(tuner: Tuner, truth, seed: int = 0) -> list[Trial]:
    rng = random.Random(seed)
    asked = []
    while (trial := tuner.ask()) is not None:
        assert tuner.ask() == trial
        asked.append(trial)
        tuner.tell(trial, truth(trial.config, rng))
    return asked


def noisy(config: dict, rng: random.Random) -> TrialResult:
    return TrialResult(score=10 * config["n"] * rng.uniform(0.97, 1.03))


def tuners(budget: int) -> list[Tuner]:
    return [
        Search(CONFIGS, SPACE, SearchPlan(budget=budget, seed=3)),
        random_search(CONFIGS, budget, 3),
        grid_search(CONFIGS, budget),
        HalvingSearch(CONFIGS, budget, 3),
    ]


@pytest.mark.parametrize("budget", [1, 2, 5, 8, 30])
@pytest.mark.parametrize("which", range(4))
def test_budgets_and_repeats_are_counted(which: int, budget: int) -> None:
    asked = run(tuners(budget)[which], noisy)
    assert len(asked) == budget
    seen: dict[int, int] = {}
    for trial in asked:
        assert trial.repeat == seen.get(trial.place, 0)
        seen[trial.place] = trial.repeat + 1


@pytest.mark.parametrize("which", range(4))
def test_the_same_seed_asks_the_same(which: int) -> None:
    assert run(tuners(20)[which], noisy) == run(tuners(20)[which], noisy)


@pytest.mark.parametrize("which", range(4))
def test_the_best_is_found_or_nothing_is(which: int) -> None:
    tuner, hopeless = tuners(24)[which], tuners(24)[which]
    run(tuner, noisy)
    best = tuner.best()
    assert best is not None and best.config["n"] == 8
    run(hopeless, lambda config, rng: TrialResult(failure="out of memory"))
    assert hopeless.best() is None


def test_the_pick_near_the_decision_was_repeated() -> None:
    for land in LANDSCAPES[:3]:
        configs = land.space.configurations()
        tuner = Search(configs, land.space, SearchPlan(budget=30, seed=1))
        land.reached(tuner, 1)
        best = tuner.best()
        assert best is not None and best.repeat >= 3


def test_the_baseline_comes_first() -> None:
    baseline = {"n": 2, "k": "b"}
    tuner = Search(CONFIGS, SPACE, SearchPlan(budget=6), baseline)
    trial = tuner.ask()
    assert trial is not None and trial.config == baseline
    with pytest.raises(ConfigError):
        Search(CONFIGS, SPACE, SearchPlan(budget=6), {"n": 3, "k": "b"})


def test_failures_teach_where_not_to_go() -> None:
    space = Space((Parameter("n", tuple(range(1, 31)), ordered=True), Parameter("k", ("a", "b"))))

    def truth(config: dict, rng: random.Random) -> TrialResult:
        if config["n"] > 12:
            return TrialResult(failure="out of memory")
        return TrialResult(score=config["n"] * rng.uniform(0.98, 1.02))

    configs = space.configurations()
    tuner = Search(configs, space, SearchPlan(budget=24, seed=2))
    asked = run(tuner, truth)
    best = tuner.best()
    assert best is not None and best.config["n"] >= 11
    assert sum(trial.config["n"] > 14 for trial in asked[8:]) <= 5


def test_a_lucky_run_of_an_infeasible_one_is_not_picked() -> None:
    def truth(config: dict, rng: random.Random) -> TrialResult:
        missed = 0.03 + rng.gauss(0, 0.04) if config["n"] == 8 else -0.5
        return TrialResult(score=10 * config["n"], violation=missed)

    picks = []
    for seed in range(10):
        tuner = Search(CONFIGS, SPACE, SearchPlan(budget=24, seed=seed))
        run(tuner, truth, seed)
        best = tuner.best()
        assert best is not None
        picks.append(best.config["n"])
    assert picks.count(4) >= 8


def test_one_configuration_is_a_space_too() -> None:
    space = space_of([{"a": 1}])
    tuner = Search([{"a": 1}], space, SearchPlan(budget=3))
    assert len(run(tuner, lambda config, rng: TrialResult(score=1.0))) == 3
    assert tuner.best() == Trial(0, {"a": 1}, 3)


def test_what_was_not_asked_is_refused() -> None:
    tuner = random_search(CONFIGS, 3, 0)
    with pytest.raises(ConfigError):
        tuner.tell(Trial(0, {"n": 99, "k": "a"}, 0), TrialResult(score=1.0))
    with pytest.raises(ConfigError):
        random_search([], 3, 0)
    with pytest.raises(ConfigError):
        random_search(CONFIGS, 0, 0)


@pytest.mark.parametrize(
    "wrong", [{}, {"score": float("nan")}, {"score": 1.0, "violation": float("inf")}]
)
def test_results_must_say_something(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        TrialResult(**wrong)


@pytest.mark.parametrize("wrong", [{"noise": 0}, {"start": 0.8, "repeats": 0.4}, {"start": 0}])
def test_plans_must_make_sense(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        SearchPlan(budget=5, **wrong)
