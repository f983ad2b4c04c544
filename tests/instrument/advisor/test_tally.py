"""Rows and tallies of a scoreboard: gains have one direction, and nothing is counted twice."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrument.advisor.entries import entry, samples, verdict
from sixfold.instrument.advisor.symptoms import table
from sixfold.instrument.advisor.tally import CALLS, Change, calls, gain, rows, tallies

CALLED = st.lists(st.tuples(st.sampled_from(CALLS), st.sampled_from(("a", "b", "c"))))
RATIOS = st.floats(1e-6, 1e6)


def test_every_trial_is_one_row_in_words():
    shown = rows(samples())
    assert [row.call for row in shown] == [
        "GAIN", "WORSE", "GAIN", "NO GAIN", "INCONCLUSIVE", "WORSE",
    ]  # fmt: skip
    title = next(s.title for s in table().symptoms if s.id == "kv-preempting")
    assert shown[0].symptom == title and shown[0].engine == "sixfold 1.0"
    assert shown[0].flags == (Change("max_num_seqs", "2", "8"),)
    assert shown[2].flags == (Change("enable_prefix_caching", "default", "on"),)
    assert shown[3].strategy == table().remedies["more-clients"].do
    assert shown[5].gain is shown[5].low is shown[5].high is None and "no memory" in shown[5].why


def test_what_the_table_does_not_know_keeps_its_id():
    (row,) = rows([entry(0, verdict("GAIN", 2.0), strategy="", remedy="r", symptom="s")])
    assert (row.strategy, row.symptom) == ("r", "s")
    (row,) = rows([entry(0, verdict("GAIN", 2.0), strategy="", remedy="")])
    assert row.strategy == "not named"


@given(ratio=RATIOS, width=st.floats(1, 10), metric=st.sampled_from(("goodput", "ttft:p95")))
def test_gains_have_one_direction(ratio, width, metric):
    told = verdict("INCONCLUSIVE", ratio, metric, low=ratio / width, high=ratio * width)
    (row,) = rows([entry(0, told)])
    assert row.gain == pytest.approx(told.gain) and row.low <= row.gain <= row.high
    assert row.gain == 0 or (row.gain > 0) == ((ratio > 1) == (metric == "goodput"))
    assert math.isclose((1 + gain(ratio, "goodput")) * (1 + gain(ratio, "ttft:p95")), 1)


@pytest.mark.parametrize("ratio", [0.0, -1.0, 5e-324])
def test_a_ratio_that_can_be_none_is_none_to_show(ratio):
    assert gain(ratio, "ttft:p95") is None


@given(CALLED, st.randoms())
def test_tallies_count_every_trial_once(made, random):
    entries = [
        entry(0, verdict(call, 1 + n / 100), strategy=strategy, date=f"2026-{n}")
        for n, (call, strategy) in enumerate(made)
    ]
    twice = entries + random.sample(entries, len(entries) // 2)
    shown = rows(twice)
    assert len(shown) == len(entries)
    found = tallies(shown)
    assert sum(tally.advised for tally in found) == len(entries)
    for call in CALLS:
        assert sum(tally.calls[call] for tally in found) == calls(shown)[call]
    assert [t.advised for t in found] == sorted((t.advised for t in found), reverse=True)
    for tally in found:
        assert tally.gains[0] <= tally.median <= tally.gains[-1]


def test_a_strategy_without_a_ratio_has_no_median():
    (tally,) = tallies(rows([entry(0, verdict("WORSE", None))]))
    assert tally.median is None and tally.advised == 1 and tally.gains == ()


def test_a_difference_in_anything_is_another_trial():
    first = entry(0, verdict("GAIN", 2.0))
    other = msgspec.structs.replace(first, commit="other")
    assert len(rows([first, other, first])) == 2
