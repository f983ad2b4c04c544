"""How many tokens are drafted: the best of all counts by the given costs, none where none pays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.engine.speculative.acceptance import PRIOR, Acceptance, kind_of
from sixfold.engine.speculative.choice import GAIN, choose
from sixfold.engine.speculative.cost import StepCost

FLAT = StepCost([1, 1000], [1.0, 1.0])
LINEAR = StepCost([1, 1000], [1.0, 1000.0])

falling = st.lists(st.floats(0, 1), max_size=5).map(lambda some: sorted(some, reverse=True))


def test_free_rows_are_all_taken_and_dear_ones_are_not():
    chances = {"a": [0.9, 0.8], "b": [0.1]}
    assert choose(2, 2, chances, FLAT)[0] == {"a": 2, "b": 1}
    assert choose(2, 2, chances, LINEAR)[0] == {}
    assert choose(2, 2, {}, FLAT)[0] == {}


def test_a_draft_that_takes_longer_than_it_saves_is_not_made():
    chances = {"a": [0.9, 0.8]}
    assert choose(1, 1, chances, FLAT, draft_seconds=1.5)[0] == {"a": 2}
    assert choose(1, 1, chances, FLAT, draft_seconds=1.8)[0] == {}


@given(st.dictionaries(st.sampled_from("abcd"), falling), st.integers(0, 3), st.floats(0, 2))
def test_no_other_count_promises_more(chances, more, draft_seconds):
    cost = StepCost([1, 4, 5, 30], [1.0, 1.1, 2.0, 6.0])
    requests = len(chances) + 1
    lengths, rate = choose(requests, requests + more, chances, cost, draft_seconds)
    ranked = sorted((chance for some in chances.values() for chance in some), reverse=True)
    rates = [requests / cost.seconds(requests + more)]
    for count in range(1, len(ranked) + 1):
        seconds = cost.seconds(requests + more + count) + draft_seconds
        rates.append((requests + sum(ranked[:count])) / seconds)
    if max(rates) > rates[0] * GAIN:
        assert rate == pytest.approx(max(rates))
        assert sum(lengths.values()) == rates.index(max(rates)) or lengths
    else:
        assert lengths == {} and rate == rates[0]
    assert all(0 < length <= len(chances[name]) for name, length in lengths.items())


def test_costs_never_fall_and_follow_what_steps_take():
    cost = StepCost([1, 2, 4], [2.0, 1.0, 3.0])
    assert [cost.curve(rows) for rows in (1, 2, 3, 4, 8)] == [2.0, 2.0, 2.5, 3.0, 6.0]
    for _ in range(200):
        cost.learn(2, 3.0)
    assert cost.seconds(4) == pytest.approx(4.0, rel=1e-3)
    for _ in range(600):
        cost.learn(2, 1.0)
    assert cost.seconds(4) == pytest.approx(2.0, rel=1e-2)


def test_costs_learn_what_a_row_takes_on_top_of_the_curve():
    cost = StepCost([1, 2, 4, 8], [1.0, 1.1, 1.2, 1.3])
    for rows in (2, 8, 4, 2, 8) * 100:
        cost.learn(rows, cost.curve(rows) + 0.2 * rows)
    for rows in (2, 4, 8):
        assert cost.seconds(rows) == pytest.approx(cost.curve(rows) + 0.2 * rows, rel=0.15)


def test_a_step_that_the_machine_held_up_is_not_believed():
    cost = StepCost([1, 2], [1.0, 1.0])
    for _ in range(100):
        cost.learn(1, 1.0)
    cost.learn(1, 1000.0)
    assert cost.seconds(1) < 1.1


def test_chances_begin_with_a_guess_and_end_with_what_was_seen():
    acceptance, kind = Acceptance(3), kind_of("ngram", 3)
    assert acceptance.kept("a", kind, 2) == pytest.approx([PRIOR, PRIOR**2])
    for _ in range(300):
        acceptance.learn("a", kind, 3, 1)
    first, second, *rest = acceptance.kept("a", kind, 9)
    assert first > 0.98 and second < 0.1 and all(third <= second for third in rest)
    # Nothing was ever seen of the third one, but the second's chance bounds it.
    acceptance.forget("a", ("ngram",))
    assert acceptance.kept("a", kind, 1)[0] > 0.95


def test_a_request_of_its_own_kind_is_told_from_the_rest():
    acceptance, kind = Acceptance(2), kind_of("ngram", 3)
    for _ in range(100):
        acceptance.learn("good", kind, 2, 2)
        acceptance.learn("bad", kind, 2, 0)
    assert acceptance.kept("good", kind, 1)[0] > 0.8
    assert acceptance.kept("bad", kind, 1)[0] < 0.2
    assert 0.3 < acceptance.kept("new", kind, 1)[0] < 0.7
