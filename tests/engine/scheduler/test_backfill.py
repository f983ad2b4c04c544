"""How much backfill a step may hold: costs that are learned, latencies that are kept."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sixfold.engine.scheduler.backfill import Allowance, alone
from sixfold.engine.scheduler.slowdown import ENOUGH, KEPT, Latency, StepShare, surely
from sixfold.engine.scheduler.step_cost import LearnedCost, Work


def taken(work: Work) -> float:
    """A step of some machine, in seconds."""
    bends = 0.9e-3 * max(0, work.rows - 4)
    return 8e-3 + 0.1e-3 * work.rows + bends + 0.6e-3 * work.prompt + 2e-6 * work.context


def some_work(rng: Random) -> Work:
    """As it comes in a server: mostly decodes, now and then a prompt."""
    rows = rng.randint(0, 30)
    prompt = rng.randint(1, 200) if rng.random() < 0.3 or not rows else 0
    return Work(rows, prompt, rows * rng.randint(20, 500))


def learned(steps: int = 600, noise: float = 0.0, outliers: float = 0.0) -> LearnedCost:
    cost, rng = LearnedCost(), Random(3)
    for _ in range(steps):
        work = some_work(rng)
        factor = 10.0 if rng.random() < outliers else rng.gauss(1.0, noise)
        cost.learn(work, taken(work) * max(0.2, factor))
    return cost


@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.02), (0.1, 0.08)])
def test_costs_are_learned(noise, within):
    cost, rng = learned(noise=noise), Random(4)
    for _ in range(100):
        work = some_work(rng)
        assert cost.seconds(work) == pytest.approx(taken(work), rel=within)


def test_outliers_do_not_move_costs_far():
    cost, rng = learned(noise=0.05, outliers=0.02), Random(4)
    for _ in range(100):
        work = some_work(rng)
        assert cost.seconds(work) == pytest.approx(taken(work), rel=0.15)


def test_a_machine_that_gets_slower_is_followed():
    cost, rng = learned(noise=0.05), Random(5)
    for _ in range(1500):
        work = some_work(rng)
        cost.learn(work, 2.0 * taken(work) * rng.gauss(1.0, 0.05))
    for _ in range(100):
        work = some_work(rng)
        assert cost.seconds(work) == pytest.approx(2.0 * taken(work), rel=0.1)


def test_nothing_takes_no_time():
    cost = learned()
    assert cost.seconds(Work()) == 0.0
    assert not LearnedCost().known
    assert LearnedCost().seconds(Work(3, 4, 5)) == 0.0


works = st.builds(Work, st.integers(0, 40), st.integers(0, 300), st.integers(0, 20_000))
COST = learned(noise=0.1)


@given(work=works, more=works)
def test_more_work_never_costs_less(work, more):
    if work.rows or work.prompt:
        assert COST.seconds(work.plus(*more)) >= COST.seconds(work)


@given(
    samples=st.lists(
        st.tuples(works, st.floats(0.0, 10.0, allow_nan=False)), min_size=1, max_size=60
    ),
    asked=works,
)
def test_whatever_steps_take_costs_are_never_negative(samples, asked):
    cost = LearnedCost()
    for work, seconds in samples:
        cost.learn(work, seconds)
    assert 0.0 <= cost.seconds(asked) < math.inf


def fill(work: Work, seconds: float, contexts: list[int], most: int) -> Work:
    """What an allowance lets in: decodes first, then one prompt."""
    allowance = Allowance(COST, work, seconds)
    for context in contexts:
        if not allowance.takes_decode(context):
            break
        work = work.plus(1, 0, context)
    context = contexts[0] if contexts else 0
    count = allowance.prompt_tokens(most, context)
    assert 0 <= count <= most
    if count:
        work = work.plus(0, count, context)
        allowance.take_prompt(count, context)
    return work


contexts = st.lists(st.integers(0, 2000), max_size=30)


@given(work=works, seconds=st.floats(0.0, 0.3), contexts=contexts, most=st.integers(0, 500))
def test_an_allowance_is_never_exceeded(work, seconds, contexts, most):
    end = fill(work, seconds, contexts, most)
    empty = not work.rows and not work.prompt
    assert end == work or empty or COST.seconds(end) <= COST.seconds(work) + seconds + 1e-9


@given(
    work=works, seconds=st.floats(0.0, 0.3), more=st.floats(0.0, 0.3),
    most=st.integers(0, 500), context=st.integers(0, 2000),
)  # fmt: skip
def test_more_slack_lets_in_no_less(work, seconds, more, most, context):
    few, many = Allowance(COST, work, seconds), Allowance(COST, work, seconds + more)
    assert few.prompt_tokens(most, context) <= many.prompt_tokens(most, context)
    assert few.takes_decode(context) <= many.takes_decode(context)


def test_no_slack_lets_in_nothing_and_no_limit_everything():
    none, all_of_it = Allowance(COST, Work(1, 0, 9), 0.0), Allowance(COST, Work(), math.inf)
    assert not none.takes_decode(0)
    assert none.prompt_tokens(9, 0) == 0
    assert all_of_it.takes_decode(10**6)
    assert all_of_it.prompt_tokens(4096, 10**6) == 4096


def test_a_latency_is_limited_by_what_it_would_be_alone():
    latency = Latency(0.1, scale=0.5, gain=0.1)
    for number in range(ENOUGH):
        assert not latency.known
        latency.take(2.0, 1.0 + number / (ENOUGH - 1))
    assert latency.limit == pytest.approx(1.1 * (1.0 + surely(95, ENOUGH) / 100))


@given(st.integers(1, 10_000))
def test_more_samples_are_trusted_further(count):
    assert 0.0 <= surely(95, count) <= surely(95, count + 1) < 95.0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(-1.0, 100.0)), max_size=80))
def test_what_is_lent_stays_a_part(pairs):
    latency = Latency(0.3, scale=0.5, gain=0.2)
    for measured, without in pairs:
        latency.take(measured, without)
        assert 0.0 <= latency.scale <= 1.0
        assert 0.0 <= latency.margin <= 2.0 * latency.limit


def test_lending_rests_where_as_many_are_beyond_the_limit_as_alone():
    latency, rng, beyond = Latency(0.1, scale=1.0, gain=0.05), Random(1), []
    for _ in range(6000):
        without = rng.uniform(0.5, 1.0)
        measured = without + 2.0 * latency.scale * rng.random()
        beyond.append(measured > latency.limit > 0.0)
        latency.take(measured, without)
    alone_beyond = 1.0 - surely(95, KEPT) / 100
    assert sum(beyond[2000:]) / 4000 == pytest.approx(alone_beyond, abs=0.015)


def test_who_is_slow_anyway_changes_nothing():
    latency = Latency(0.1, scale=0.5, gain=0.1)
    for _ in range(ENOUGH):
        latency.take(1.0, 1.0)
    latency.take(9.0, 8.0)
    assert latency.scale == 0.5


@given(
    took=st.floats(0.001, 100.0), own=st.floats(0.0, 1.0), prompts=st.floats(0.0, 1.0),
    backfill=st.floats(0.0, 1.0),
)  # fmt: skip
def test_alone_a_request_takes_no_longer(took, own, prompts, backfill):
    whole = own + prompts + backfill or 1.0
    found = alone(took, took * own / whole, took * prompts / whole)
    assert 0.0 <= found <= took
    if not backfill and own:
        assert found == pytest.approx(took)


def test_a_share_of_steps_is_a_clock():
    clock = StepShare()
    clock.step(10.0, 0.25)
    assert clock.at(14.0) == pytest.approx(1.0)
    clock.pause(14.0)
    assert clock.at(100.0) == pytest.approx(1.0)
    clock.step(100.0, 0.5)
    assert clock.at(102.0) == pytest.approx(2.0)
    assert clock.at(90.0) == pytest.approx(1.0)
