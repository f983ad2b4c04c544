"""The tuner's story with a simulated engine: resumption, finals on new prompts, failures."""

import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.loadgen.arrivals import Arrivals, constant, replay
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job, Subject, failed_point
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.capacity import capacity_plan, find_capacity, raised
from sixfold.instrument.tuner.outcome import Tried
from sixfold.instrument.tuner.runner import PlannedRun
from sixfold.instrument.tuner.tell import verdict_lines
from sixfold.instrument.tuner.trial import Trial, TrialResult, grid_search
from sixfold.instrument.tuner.tune import CONFIRM_SEED, PRIOR_NOISE, Found, Study, tune
from sixfold.instrument.tuner.verdict import needed_repeats
from sixfold.instrument.workloads.presets import parse_workload

JOB = Job(
    target=Target(url="http://127.0.0.1:1"),
    workload=parse_workload("random:count=4"),
    load=4,
    slo=parse_slo("ttft:p95<1s"),
)
STUDY = Study(
    name="study",
    spec=EngineSpec(engine="sixfold", model="m", flags={"seqs": 8}),
    job=JOB,
    seconds=1000,
)


SPACE: list[dict[str, Scalar]] = [{"seqs": n} for n in (4, 16, 32, 64)]


class Listener:
    """A plain search that remembers what it is told."""

    def __init__(self) -> None:
        self._inner = grid_search(SPACE, repeats=2)
        self.told: list[tuple[Scalar, TrialResult]] = []

    def ask(self) -> Trial | None:
        return self._inner.ask()

    def tell(self, trial: Trial, result: TrialResult) -> None:
        self.told.append((trial.config["seqs"], result))
        self._inner.tell(trial, result)

    def best(self) -> Trial | None:
        return self._inner.best()


class Engine:
    """32 is best; 64 is faster but breaks the objective; 16 does not start."""

    def __init__(self, kill_at: int = -1) -> None:
        self.runs: Counter[str] = Counter()
        self.seeds: list[tuple[Scalar, int]] = []
        self.kill_at = kill_at

    def run(self, trial: PlannedRun, job: Job) -> Point:
        if sum(self.runs.values()) == self.kill_at:
            raise KeyboardInterrupt
        seqs = trial.spec.flags["seqs"]
        assert isinstance(seqs, int)
        name = trial.id(job)
        self.runs[name] += 1
        self.seeds.append((seqs, job.seed))
        subject = Subject(
            engine="sixfold",
            model="m",
            config=dict(trial.spec.flags),
            study=trial.study,
            repeat=trial.repeat,
            hardware="here",
        )
        if seqs == 16:
            point = failed_point(job, subject, "did_not_start", "it would not")
        else:
            assert isinstance(job.load, int)
            late = seqs == 64 or job.load > 2 * seqs
            values = {
                "goodput": 0.0 if late else float(seqs),
                "output_throughput": 10.0 * seqs,
                "ttft:p95": 2.0 if late else 0.5,
            }
            point = msgspec.structs.replace(
                failed_point(job, subject, "failed", "x"), status="ok", reason="", values=values
            )
        return msgspec.structs.replace(point, id=name)


def run(path: Path, engine: Engine, tuner: Listener | None = None, study: Study = STUDY) -> Found:
    with Store(path) as store:
        return tune(
            study, lambda noise: tuner or Listener(), store, engine, lambda point, spent: None
        )


def test_finds_the_best_that_keeps_the_objectives(tmp_path: Path) -> None:
    engine, tuner = Engine(), Listener()
    found = run(tmp_path / "s.db", engine, tuner)
    assert found.winner is not None and found.winner.points[0].config == {"seqs": 32}
    assert found.baseline.points[0].config == {"seqs": 8} and len(found.baseline.points) == 3
    assert (found.runs, found.resumed, found.configurations) == (3 + 8 + 6, 0, 5)
    (price,) = found.prices
    assert (price.metric, price.with_it, price.without_it) == ("output_throughput", 320, 640)
    assert (16, TrialResult(failure="it would not")) in tuner.told
    assert (64, TrialResult(violation=1.0)) in tuner.told


def test_finals_are_pairs_on_prompts_that_the_search_never_saw(tmp_path: Path) -> None:
    engine = Engine()
    found = run(tmp_path / "s.db", engine)
    assert [p.config["seqs"] for p in found.final_baseline] == [8, 8, 8]
    assert [p.config["seqs"] for p in found.final_winner] == [32, 32, 32]
    search, finals = engine.seeds[:-6], engine.seeds[-6:]
    assert max(seed for _, seed in search) < CONFIRM_SEED <= min(seed for _, seed in finals)
    firsts = [seqs for seqs, _ in finals[::2]]
    assert set(firsts) == {8, 32}, "neither is always first"
    assert found.comparison is not None and found.comparison.call == "GAIN"
    assert found.comparison.ratio == pytest.approx(4.0)
    for ours, theirs in zip(found.final_baseline, found.final_winner, strict=True):
        assert ours.seed == theirs.seed, "a pair has the same prompts"


def test_a_baseline_that_once_did_not_start_is_the_baseline_still(tmp_path: Path) -> None:
    """Its failed start knows no version; no other group may pass for the winner over it."""

    class Shaky(Engine):
        def run(self, trial: PlannedRun, job: Job) -> Point:
            point = super().run(trial, job)
            if trial.spec.flags["seqs"] != 8:
                return msgspec.structs.replace(point, engine_version="1.0")
            if sum(self.runs.values()) == 1:
                changes = {"status": "did_not_start", "reason": "busy", "values": {}}
                return msgspec.structs.replace(point, **changes)
            return msgspec.structs.replace(point, engine_version="1.0")

    found = run(tmp_path / "s.db", Shaky())
    assert len(found.baseline.points) == 3 and found.baseline.failed
    assert found.configurations == 5, "the baseline is one of them, not two"
    assert found.winner is not None and found.winner.points[0].config == {"seqs": 32}


@pytest.mark.parametrize("seed", range(5))
def test_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "s.db"
    total: Counter[str] = Counter()
    lives = 0
    while True:
        engine = Engine(kill_at=rng.randrange(0, 6))
        try:
            found = run(path, engine)
        except KeyboardInterrupt:
            lives += 1
        else:
            total += engine.runs
            break
        total += engine.runs
    assert lives > 0 and set(total.values()) == {1}
    whole = Engine()
    run(tmp_path / "whole.db", whole)
    assert total == whole.runs
    assert found.winner is not None and found.winner.points[0].config == {"seqs": 32}


def test_the_search_hears_of_the_noise(tmp_path: Path) -> None:
    class Noisy(Engine):
        def run(self, trial: PlannedRun, job: Job) -> Point:
            point = super().run(trial, job)
            values = point.values | {"goodput": 8.0 * (1 + 0.1 * (job.seed % 3 - 1))}
            return msgspec.structs.replace(point, values=values)

    heard: list[float] = []

    def make(noise: float) -> Listener:
        heard.append(noise)
        return Listener()

    for engine in (Engine(), Noisy()):
        with Store(tmp_path / f"{len(heard)}.db") as store:
            found = tune(STUDY, make, store, engine, lambda point, spent: None)
        assert found.noise == heard[-1]
    assert heard[0] < PRIOR_NOISE < heard[1] < 0.1
    text = "\n".join(verdict_lines(found, JOB, "goodput", 12))
    assert f"one run varies by {heard[1]:.1%}" in text
    assert f"takes {needed_repeats(heard[1], 0.1)} pairs" in text


def test_the_highest_load_of_both_and_nothing_twice(tmp_path: Path) -> None:
    study = msgspec.structs.replace(STUDY, find_load=True)
    engine = Engine()
    found = run(tmp_path / "s.db", engine, study=study)
    baseline, best = found.capacity
    assert (baseline.passing, best.passing) == (16, 64), "twice the sequences, and no more"
    assert baseline.failing is not None and baseline.failing <= 16 * 1.1 + 1
    assert set(engine.runs.values()) == {1}
    again = Engine()
    assert run(tmp_path / "s.db", again, study=study).capacity == found.capacity
    assert not again.runs, "a study that is done runs nothing"
    text = "\n".join(verdict_lines(found, JOB, "goodput", 12))
    assert "highest load of the best that meets ttft:p95<1s: 64 at once (misses at" in text


def test_a_higher_load_brings_more_sessions() -> None:
    more = raised(JOB, 10)
    assert (more.load, len(more.workload.build(0))) == (10, 10)
    steady = msgspec.structs.replace(JOB, load=constant(2.0))
    faster = raised(steady, 3.0)
    assert isinstance(faster.load, Arrivals)
    assert (faster.load.rate, len(faster.workload.build(0))) == (3.0, 6)
    with pytest.raises(ConfigError, match="no one rate"):
        capacity_plan(replay())
    with pytest.raises(ConfigError, match="needs objectives"):
        find_capacity(lambda job: pytest.fail(), msgspec.structs.replace(JOB, slo=None))


def test_a_budget_that_is_over_still_measures_the_baseline(tmp_path: Path) -> None:
    study = msgspec.structs.replace(STUDY, seconds=1e-6)
    found = run(tmp_path / "s.db", Engine(), study=study)
    assert found.configurations == 1 and found.winner is not None
    assert found.winner.key == found.baseline.key and found.final_winner == ()


class Lossy(Engine):
    """32 is the fastest that keeps the objectives, but says other things than the baseline."""

    def run(self, trial: PlannedRun, job: Job) -> Point:
        point = super().run(trial, job)
        if trial.spec.flags["seqs"] != 32:
            return point
        said = {"quality_passed": False, "quality_reason": "other words", "quality_agreement": 0.1}
        return msgspec.structs.replace(point, telemetry=said)


def test_what_fails_the_quality_check_never_wins_and_is_said(tmp_path: Path) -> None:
    tuner = Listener()
    for _life in range(2):  # the second finds all points in the store
        found = run(tmp_path / "s.db", Lossy(), tuner)
        assert found.winner is not None and found.winner.points[0].config == {"seqs": 8}
        assert found.refused == 1
        assert (32, TrialResult(failure="quality: other words")) in tuner.told
        tuner = Listener()
    text = "\n".join(verdict_lines(found, JOB, "goodput", 12))
    assert "the quality check refused 1 of 5 configurations" in text


def test_the_table_tells_the_quality_of_lossy_settings() -> None:
    subject = Subject(engine="sixfold", model="m", hardware="here")
    plain = failed_point(JOB, subject, "failed", "x")
    lossy = msgspec.structs.replace(plain, telemetry={"quality_agreement": 0.62})
    found = Found(
        baseline=Tried(key="a", points=(plain,)),
        winner=Tried(key="b", points=(lossy,)),
        runs=2,
        resumed=0,
        configurations=2,
    )
    text = "\n".join(verdict_lines(found, JOB, "goodput", 12))
    assert "quality (%)" in text and "62" in text
