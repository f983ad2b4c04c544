"""A real `sixfold tune` is killed and resumed: nothing is lost, run twice, or left running."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import kill_tuner
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.tune import CONFIRM_SEED

KILLS = int(os.environ.get("SIXFOLD_TUNER_KILLS", "3"))
Run = tuple[str, str, int, int, str, str]


def runs(store: Path, study: str, finals: bool) -> list[Run]:
    """What a study holds, but what was measured: ids, configurations, and what was sent."""
    with Store(store) as opened:
        points = [point for _, point in opened.points(study)]
    return sorted(
        (p.id, repr(p.config), p.seed, p.repeat, p.status, p.fingerprint["id"])
        for p in points
        if (p.seed >= CONFIRM_SEED) is finals
    )


def test_a_killed_study_holds_what_one_left_alone_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grid is asked, whose questions do not depend on what is measured."""
    whole = kill_tuner.command

    def command(store: Path, seed: int) -> list[str]:
        return [*whole(store, seed), "--search", "grid", "--runs", "6"]

    monkeypatch.setattr(kill_tuner, "command", command)
    killed, alone = tmp_path / "kills.db", tmp_path / "alone.db"
    tally = kill_tuner.torture(killed, KILLS)
    assert kill_tuner.live(alone, tally.studies, None, kill_tuner.Tally())
    name = kill_tuner.study(tally.studies)
    tuned = runs(alone, name, finals=False)
    assert len(tuned) == 3 + 6 and {run[4] for run in tuned} == {"ok"}
    assert runs(killed, name, finals=False) == tuned
    last = runs(killed, name, finals=True)
    seeds = sorted(run[2] for run in last)
    first = CONFIRM_SEED + tally.studies
    assert seeds == [first + i // 2 for i in range(len(last))], "pairs, each complete"


def log(*words: str) -> list[str]:
    texts = {"told": kill_tuner.TOLD + " 1%] n=1: 5", "start": kill_tuner.STARTS + "sixfold"}
    return [texts[word] for word in words]


def test_damage_is_seen() -> None:
    old = {"a": "killed-1", "b": "killed-1", "z": "killed-0"}
    new = old | {"c": "killed-1"}
    assert not kill_tuner.check(old, old, log("told", "told", "start"), 1)
    assert not kill_tuner.check(old, old, [], 1), "killed before its first line"
    assert not kill_tuner.check(old, new, log("told", "told", "start", "told"), 1)
    assert kill_tuner.check(old, new, log("told", "told", "start"), 1), "killed before it told"
    for after, words in (
        ({"a": "killed-1", "b": "killed-1"}, ("told", "told")),
        (old, ("told", "told", "start", "told")),
        (old, ("told", "start", "told")),
        (new | {"d": "killed-1"}, ("told", "told", "start")),
    ):
        with pytest.raises(kill_tuner.Damage):
            kill_tuner.check(old, after, log(*words), 1)
