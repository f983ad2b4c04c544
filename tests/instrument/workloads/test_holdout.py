"""Files of prompts: what is tuned on, what confirms and what warms up are different prompts."""

import json

import pytest

from sixfold.instrument.measure import _warm_seed
from sixfold.instrument.tuner.tune import CAPACITY_SEED, CONFIRM_SEED
from sixfold.instrument.workloads.holdout import HELD_OUT, LEAST, WARM, chosen
from sixfold.instrument.workloads.presets import parse_workload

PROMPTS = range(100)
SEEDS = (0, 1, 5 << 20, CONFIRM_SEED, CONFIRM_SEED + 7, CAPACITY_SEED + (3 << 20))


@pytest.mark.parametrize("first", [0, 1, 10, 50])
def test_halves_share_no_prompt(first):
    tuned = {p for seed in range(50) for p in chosen(PROMPTS, seed, first, True)}
    held = {p for n in range(50) for p in chosen(PROMPTS, CONFIRM_SEED + n, first, True)}
    assert tuned and held and not tuned & held
    assert all(len(chosen(PROMPTS, seed, first, True)) == (first or 50) for seed in SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("first", [0, 10])
def test_warm_up_sends_nothing_that_is_measured(seed, first):
    measured = set(chosen(PROMPTS, seed, first, True))
    warm = [chosen(PROMPTS, _warm_seed(seed, number), first, True) for number in range(3)]
    assert all(order and not measured & set(order) for order in warm)
    assert len({tuple(order[:4]) for order in warm}) == 3, "rounds begin with others"


def test_loads_that_follow_one_another_send_other_prompts():
    windows = [chosen(PROMPTS, number << 20, 10, True) for number in range(5)]
    assert sorted(p for window in windows for p in window) == list(range(0, 100, 2))


def test_a_short_file_is_sent_whole_and_warm_up_begins_with_what_is_not_measured():
    few = range(LEAST - 1)
    assert chosen(few, 0, 0, True) == chosen(few, CONFIRM_SEED, 0, True) == list(few)
    assert chosen(PROMPTS, 0, 60, True) == list(range(60))
    assert set(chosen(PROMPTS, _warm_seed(0, 0), 60, True)[:40]) == set(range(60, 100))
    assert chosen(PROMPTS, 0, 0, False) == list(PROMPTS)
    assert HELD_OUT == CONFIRM_SEED < WARM


def test_what_is_not_held_out_is_said(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"p{i}"}) for i in range(20)))
    workload = parse_workload(f"jsonl:file={path}")
    assert len(workload.build(0)) == 10 and workload.build(0) != workload.build(HELD_OUT)
    assert workload.not_held_out(0) == ""
    assert "15 of 15" in parse_workload(f"jsonl:file={path},first=15").not_held_out(0)
    assert "20 of 20" in parse_workload(f"jsonl:file={path},holdout=false").not_held_out(0)
    assert parse_workload("random:count=4").not_held_out(0) == ""
    chats = tmp_path / "chats.json"
    said = [
        {"conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": "a"}]}
        for i in range(LEAST)
    ]
    chats.write_text(json.dumps(said))
    assert parse_workload(f"sharegpt:file={chats}").not_held_out(0) == ""
