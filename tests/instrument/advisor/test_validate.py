"""Verdicts on remedies: called from pairs, never from luck; kept on a scoreboard."""

import random
from pathlib import Path

import msgspec
import pytest

from sixfold.cli.advise import PAIRS
from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.instrument.advisor import scoreboard
from sixfold.instrument.advisor.proof import Loop, Subject, to_try
from sixfold.instrument.advisor.remedies import Step
from sixfold.instrument.advisor.validate import RULES, Trial, Verdict, metric_of, prove
from sixfold.instrument.advisor.words import verdict_words
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.runner import PlannedRun
from sixfold.instrument.tuner.verdict import CallRules, rules_up_to, spent_by
from sixfold.instrument.workloads.presets import parse_workload

SLO = parse_slo("ttft:p95<1s")
JOB = Job(
    target=Target(url="http://127.0.0.1:1"),
    workload=parse_workload("random:count=4"),
    load=4,
    slo=SLO,
)
SPEC = EngineSpec(engine="sixfold", model="m", flags={"max_num_seqs": 1})
STEP = Step(
    remedy="more-slots", strategy="continuous batching", do="more", against="batch-capped",
    changes={"max_num_seqs": 4}, flags="--max-num-seqs 4", before={"max_num_seqs": 1},
)  # fmt: skip
TRIAL = Trial(name="t", spec=SPEC, step=STEP, job=JOB)


class World:
    """An engine whose goodput is known, but for noise."""

    def __init__(self, before: float, after: float, noise: float, seed: int) -> None:
        self._truth = {1: before, 4: after}
        self._noise = noise
        self._rng = random.Random(seed)
        self.runs = 0

    def run(self, trial: PlannedRun, job: Job) -> Point:
        self.runs += 1
        truth = self._truth[int(trial.spec.flags["max_num_seqs"])]
        if truth < 0:
            return _point(trial, job, {}, "out_of_memory")
        value = truth * self._rng.lognormvariate(0, self._noise)
        good = {"goodput": value} if value > 0 else {"goodput": 0.0}
        return _point(trial, job, good | {"ttft:p95": 4.0 / max(value, 0.1)})


def _point(trial: PlannedRun, job: Job, values: dict[str, float], status: str = "ok") -> Point:
    return Point(
        id=trial.id(job), study=trial.study, date="2026-01-01", engine="sixfold", model="m",
        status=status, reason="" if status == "ok" else "no memory",  # type: ignore[arg-type]
        config=dict(trial.spec.flags), values=values, repeat=trial.repeat,
    )  # fmt: skip


def verdict(world: World) -> Verdict:
    return prove(TRIAL, world, lambda _side, _point: None, {})[0]


def test_signs_are_rarely_wrong_and_a_tenth_is_seen() -> None:
    """400 trials each at 3 % noise: what the default budget promises."""
    calls = {
        gain: [verdict(World(10, 10 * (1 + gain), 0.03, seed)).call for seed in range(400)]
        for gain in (0.0, 0.1, -0.1)
    }
    assert sum(call in ("GAIN", "WORSE") for call in calls[0.0]) <= 0.05 * 400
    assert calls[0.1].count("GAIN") >= 0.8 * 400 and calls[0.1].count("WORSE") <= 0.05 * 400
    assert calls[-0.1].count("WORSE") >= 0.8 * 400 and calls[-0.1].count("GAIN") <= 0.05 * 400


def test_a_clear_gain_takes_few_pairs_and_says_by_how_much() -> None:
    world = World(2, 6, 0.02, 1)
    found, points = prove(TRIAL, world, lambda _side, _point: None, {})
    assert found.call == "GAIN" and found.pairs == 3 and len(points) == 6
    assert found.gain == pytest.approx(2, abs=0.3)
    assert found.low is not None and found.high is not None and found.low < 3 < found.high
    assert verdict_words(found).startswith("GAIN: goodput +")


def test_sides_without_any_goodput_are_called_by_what_broke() -> None:
    assert verdict(World(0, 0, 0, 1)).metric == "ttft:p95"
    assert verdict(World(1, -1, 0, 1)).call == "WORSE", "it does not even start"
    assert verdict(World(-1, 1, 0, 1)).call == "GAIN"
    assert verdict(World(-1, -1, 0, 1)).call == "INCONCLUSIVE"
    blank = [_point(PlannedRun(study="t", spec=SPEC), JOB, {"goodput": 0.0})]
    assert metric_of(blank, blank, SLO) == "goodput"


def test_a_handful_of_good_requests_is_no_number_to_compare() -> None:
    def points(good: float) -> list[Point]:
        values = {"goodput": good / 8, "duration": 8.0, "ttft:p95": 3.0}
        return [_point(PlannedRun(study="t", spec=SPEC), JOB, values) for _ in range(3)]

    assert metric_of(points(10), points(30), SLO) == "goodput"
    assert metric_of(points(9), points(30), SLO) == metric_of(points(30), points(9), SLO)
    assert metric_of(points(9), points(30), SLO) == "ttft:p95"


def test_noisy_runs_take_more_pairs_and_a_cap_is_kept() -> None:
    """At 8 % noise of a run, a tenth is called with all pairs and rarely with six."""

    def calls(rules: CallRules) -> list[str]:
        worlds = [World(10, 11, 0.08, seed) for seed in range(200)]
        trial = msgspec.structs.replace(TRIAL, rules=rules)
        return [prove(trial, world, lambda *_: None, {})[0].call for world in worlds]

    assert calls(RULES).count("GAIN") >= 0.8 * 200
    assert calls(rules_up_to(6, RULES)).count("GAIN") <= 0.6 * 200
    capped = rules_up_to(6, RULES)
    assert capped.last == 6 and spent_by(capped, 6) == pytest.approx(spent_by(RULES, RULES.last))
    assert rules_up_to(99, RULES) == RULES and RULES.last == PAIRS
    with pytest.raises(ConfigError, match="tell nothing"):
        rules_up_to(2, RULES)


def test_a_remedy_without_a_flag_is_not_tried() -> None:
    bare = msgspec.structs.replace(STEP, changes={})
    with pytest.raises(ConfigError, match="no flag"):
        prove(msgspec.structs.replace(TRIAL, step=bare), World(1, 1, 0, 1), lambda *_: None, {})
    with pytest.raises(ConfigError, match="objective"):
        prove(
            msgspec.structs.replace(TRIAL, job=msgspec.structs.replace(JOB, slo=None)),
            World(1, 1, 0, 1), lambda *_: None, {},
        )  # fmt: skip


def test_runs_are_kept_and_never_made_twice(tmp_path: Path) -> None:
    subject = Subject(spec=SPEC, job=JOB, workload="random:count=4")
    entries = []
    for world in (World(2, 6, 0.02, 1), World(99, 99, 0, 2)):
        with Store(tmp_path / "a.db") as store:
            loop = Loop(subject, world, store)
            advice = loop.examine({})
            assert advice.state == "abstained", "the engine told nothing of itself"
            assert to_try(advice, 3) == ()
            entries.append(loop.try_step(STEP, lambda _side, _point: None))
    assert world.runs == 0, "the second time all is there"
    assert entries[0] == entries[1]
    board = tmp_path / "board.jsonl"
    scoreboard.append(board, entries[:1])
    scoreboard.append(board, entries[1:])
    assert scoreboard.read(board) == entries[:1], "the same entry is kept once"
    assert scoreboard.summary(entries)["GAIN"] == 2
    board.write_bytes(board.read_bytes() + b'{"half": ')
    assert scoreboard.read(board) == entries[:1], "a line that was cut off is not there yet"
    board.write_bytes(b'{"other": 1}\n')
    with pytest.raises(ConfigError, match="no entry"):
        scoreboard.read(board)
