"""A real `sixfold tune` is killed and resumed: nothing is lost, run twice, or left running."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import kill_tuner

KILLS = int(os.environ.get("SIXFOLD_TUNER_KILLS", "3"))


def test_kills_cost_no_point_and_leave_no_server(tmp_path: Path) -> None:
    tally = kill_tuner.torture(tmp_path / "kills.db", KILLS)
    assert tally.kills == KILLS and tally.finished == tally.studies >= 1
    assert tally.points >= tally.studies * 6 and tally.servers > 0


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
