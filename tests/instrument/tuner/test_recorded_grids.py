"""The search's target on grids of real runs; and that picks are judged as they should be.

Grids are made by benchmarks/record_grid.py on a quiet machine; without one there is nothing to
hold the target against.
"""

import math
import random
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

import drift  # noqa: E402
import grids  # noqa: E402
import replay  # noqa: E402
from sixfold.core.errors import ConfigError  # noqa: E402
from sixfold.core.record import Machine  # noqa: E402
from sixfold.instrument.tuner import tpe  # noqa: E402
from sixfold.instrument.tuner.outcome import config_key  # noqa: E402
from sixfold.instrument.tuner.trial import grid_search  # noqa: E402

SEEDS = range(20)
FILES = sorted((ROOT / "docs" / "results" / "grids").glob("*.jsonl.gz"))
HEADER = grids.Header(
    name="made", date="2026-01-01", commit="c", dirty=False,
    machine=Machine(cpu="c", threads=2, memory_gb=1.0, system="s"),
    versions={}, engine="e", engine_version="1", model="m", workload={}, load={"concurrency": 2},
    slo="ttft:p95<1s", objective="goodput", seed=0, repeats=3,
)  # fmt: skip


def made(repeats: int = 3) -> grids.Recorded:
    """8 is best, 16 misses the objective, 32 does not start; every repeat is a little higher."""
    runs = [
        grids.Run(config={"n": n, "on": on}, repeat=r,
                  values={"goodput": n * (2 if on else 1) + 0.01 * r,
                          "ttft:p95": 2.0 if n == 16 else 0.5})
        if n < 32 else grids.Run(config={"n": n, "on": on}, repeat=r, status="out_of_memory")
        for r in range(repeats) for n in (1, 2, 4, 8, 16, 32) for on in (True, False)
    ]  # fmt: skip
    return grids.Recorded(header=HEADER, runs=tuple(runs))


@pytest.fixture(scope="module", params=FILES or [None], ids=lambda p: p.name if p else "none")
def real(request: pytest.FixtureRequest) -> grids.Recorded:
    if request.param is None:
        pytest.skip("no grid was recorded yet: benchmarks/record_grid.py")
    assert request.param.stat().st_size < grids.MAX_BYTES
    return grids.read(request.param)


def found_by(recorded: grids.Recorded, make: replay.Make) -> list[replay.Outcome]:
    budget = replay.budgets(recorded)["30 % of the runs"]
    return replay.outcomes(recorded, make, budget, SEEDS)


def test_grids_are_large_and_of_both_engines() -> None:
    if not FILES:
        pytest.skip("no grid was recorded yet")
    headers = [grids.read(path) for path in FILES]
    assert len(headers) >= 3
    assert {recorded.header.engine for recorded in headers} >= {"sixfold", "llamacpp"}
    for recorded in headers:
        assert len({config_key(run.config) for run in recorded.runs}) >= 60
        assert not recorded.header.dirty


def test_three_tenths_of_the_runs_do_no_worse_than_random_and_tpe(real: grids.Recorded) -> None:
    ours = found_by(real, replay.SEARCHES["Search"])
    rivals = {"random": replay.SEARCHES["random"]}
    if tpe.installed():
        rivals["TPE"] = tpe.TpeSearch
    for name, make in rivals.items():
        theirs = found_by(real, make)
        for reading in ("ratio", "unseen"):
            hits = [replay.hits(getattr(one, reading) for one in side) for side in (ours, theirs)]
            assert hits[0] >= hits[1], (name, reading)


def test_three_tenths_of_the_runs_are_nearly_as_good_as_all(real: grids.Recorded) -> None:
    """The target is the test below; here, what noise leaves of it (docs/results/search.json).

    A run of 2-4 s differs by 4-10 % from the next, the best configurations by less. Who sees all
    runs but those held out can't do better than `ceiling`.
    """
    ours = found_by(real, replay.SEARCHES["Search"])
    ceiling = replay.hits(one.unseen for one in replay.ceilings(real, SEEDS))
    assert replay.hits(one.unseen for one in ours) >= 0.8 * ceiling


@pytest.mark.slow  # `make test-all` says that it is missed, and stays red until it is met
def test_three_tenths_of_the_runs_find_the_best_in_19_of_20_seeds(real: grids.Recorded) -> None:
    # The truth is the mean of repeats that the search did not see.
    ours = found_by(real, replay.SEARCHES["Search"])
    assert replay.hits(one.unseen for one in ours) >= 19


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl.gz"
    size = grids.write(made(), path)
    assert grids.read(path) == made() and size == path.stat().st_size < 2000
    assert grids.write(made(), path) == size, "the same bytes each time"
    for wrong in (b"", b"no gzip", path.read_bytes()[:-20]):
        path.write_bytes(wrong)
        with pytest.raises(ConfigError):
            grids.read(path)


def test_a_search_never_sees_what_is_held_out() -> None:
    recorded = made()
    for seed in range(5):
        split = replay.Replay(recorded, seed)
        seen: list[float] = []
        tuner = grid_search(split.configs, repeats=5, seed=seed)
        tell = tuner.tell
        tuner.tell = lambda trial, result, tell=tell, seen=seen: (  # type: ignore[method-assign]
            seen.append(result.score if trial.config == {"n": 8, "on": True} else 0.0),
            tell(trial, result),
        )[1]
        outcome = split.score(tuner)
        assert len({score for score in seen if score}) == 2, "two of three repeats"
        assert outcome.reused == 3 * len(split.configs)
        assert outcome.ratio == 1 and outcome.unseen == 1


def test_more_runs_of_the_best_are_no_larger_grid() -> None:
    more = tuple(
        grids.Run(config={"n": 8, "on": True}, repeat=3 + number,
                  values={"goodput": 16.0 + 0.01 * number, "ttft:p95": 0.5})
        for number in range(9)
    )  # fmt: skip
    recorded = grids.Recorded(header=HEADER, runs=(*made().runs, *more))
    assert replay.budgets(recorded)["30 % of the runs"] == round(0.3 * 36)
    split = replay.Replay(recorded, 0)
    outcome = split.score(grid_search(split.configs, repeats=6, seed=0))
    assert outcome.reused == 4 * (len(split.configs) - 1), "the best has six new ones to give"
    assert outcome.ratio == 1 and outcome.unseen == 1


def test_what_breaks_the_objective_or_fails_is_worth_nothing() -> None:
    split = replay.Replay(made(), 0)
    only = [c for c in split.configs if c["n"] == 16]
    assert replay.hits([split.score(grid_search(split.configs, budget=36)).ratio]) == 1
    assert split.ceiling().ratio == 1
    assert len(only) == 2
    hopeless = msgspec.structs.replace(HEADER, slo="ttft:p95<1ms")
    with pytest.raises(ConfigError):
        replay.ceilings(grids.Recorded(header=hopeless, runs=made().runs), [0])
    with pytest.raises(ConfigError):
        replay.Replay(made(1), 0)


def test_budgets_are_shares_of_runs_and_of_configurations() -> None:
    assert list(replay.budgets(made()).values()) == [round(0.3 * 36), round(0.3 * 12)]
    assert replay.noise_of(made()) < 0.01


def test_tpe_plays_by_the_same_rules() -> None:
    pytest.importorskip("optuna")
    found = replay.outcomes(made(), tpe.TpeSearch, 20, range(3))
    assert replay.hits(one.ratio for one in found) == 3
    assert found == replay.outcomes(made(), tpe.TpeSearch, 20, range(3))


def test_levels_of_rounds_are_told_from_configurations() -> None:
    rng = random.Random(1)
    effects = [rng.gauss(0, 0.3) for _ in range(40)]
    levels = [0.0, 0.1, -0.2, 0.15]
    # The first round has all, the others only some, in any order.
    runs = [(place, 0) for place in range(40)]
    runs += [(place, number) for number in (1, 2, 3) for place in rng.sample(range(40), 8)]
    values = [math.exp(effects[place] + levels[number]) for place, number in runs]
    places, rounds = [place for place, _ in runs], [number for _, number in runs]
    found = drift.levelled(places, rounds, values)
    assert found == pytest.approx([math.exp(effects[place]) for place in places], rel=1e-4)
    # What one run alone has stays: only a round's level is taken out.
    lone = drift.levelled([0, 1, 2] * 4, [0] * 12, [2.0] + [1.0] * 11)
    assert lone[0] == pytest.approx(2.0)
    assert drift.levelled([], [], []) == []
    with pytest.raises(ValueError, match="not positive"):
        drift.levelled([0], [0], [0.0])
