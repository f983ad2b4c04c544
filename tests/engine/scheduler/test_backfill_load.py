"""Backfill beside random interactive arrivals, on machines made of formulas: who gets what.

Idle capacity is what is left of the tokens per second that backfill computes with the machine for
itself. Figures are those of fixed seeds: nothing here depends on time.
"""

from dataclasses import replace

import pytest

from engine.scheduler.clockwork import Clockwork, Load, Outcome, Seconds


def cpu(rows: int, prompt: int) -> float:
    """Four rows come with reading the weights; each further one costs."""
    return 0.008 + 0.0009 * max(0, rows - 4) + 0.0006 * prompt


def gpu(rows: int, prompt: int) -> float:
    """Rows cost nearly nothing beside the weights."""
    return 0.010 + 0.00005 * (rows + prompt)


LOADED = 0.4
ALWAYS = 64
"""Backfill requests in the system."""
SEEDS = (1, 2, 3)
CAPACITY: dict[Seconds, float] = {}


def capacity(seconds: Seconds) -> float:
    """Tokens per second, prompts' too, that the machine computes for backfill alone."""
    if seconds not in CAPACITY:
        CAPACITY[seconds] = rate(Clockwork(Load(seconds, 0.0, backfill=ALWAYS)).run(20.0))
    return CAPACITY[seconds]


def rate(outcome: Outcome) -> float:
    return (outcome.prompt_tokens + outcome.decode_tokens) / outcome.seconds


def both(seconds: Seconds, slowdown: float, **fields) -> tuple[float, float, float]:
    """TTFT and TPOT at p95, as a part of those alone; backfill's part of the idle capacity.

    On average of a few runs, each against itself alone: its few bursts make a run's percentile.
    """
    load = Load(seconds, 1.0, **fields)
    tokens = (sum(load.prompt) + sum(load.output)) / 2
    load = replace(load, rate=LOADED * capacity(seconds) / tokens)
    found = []
    for seed in SEEDS:
        one = replace(load, seed=seed)
        alone = Clockwork(one).run().p95()
        beside = Clockwork(replace(one, backfill=ALWAYS, slowdown=slowdown)).run()
        worse = [after / before for after, before in zip(beside.p95(), alone, strict=True)]
        found.append((*worse, rate(beside) / ((1.0 - LOADED) * capacity(seconds))))
    ttft, tpot, share = (sum(values) / len(SEEDS) for values in zip(*found, strict=True))
    return ttft, tpot, share


@pytest.mark.parametrize("machine", [cpu, gpu])
def test_half_of_the_idle_capacity_for_a_tenth_of_slowdown(machine):
    ttft, tpot, share = both(machine, 0.1)
    assert ttft <= 1.10
    assert tpot <= 1.10
    assert share >= 0.5


@pytest.mark.parametrize(("machine", "least"), [(cpu, 0.65), (gpu, 0.8)])
def test_most_of_the_idle_capacity_for_three_tenths(machine, least):
    """On this CPU four fifths cost more: steps become efficient with their rows, and so long. They
    are reached where TPOT is twice what it was, however the slack is shared out."""
    ttft, tpot, share = both(machine, 0.3)
    assert ttft <= 1.30
    assert tpot <= 1.30
    assert share >= least


def test_a_noisy_machine_keeps_the_limits_too():
    ttft, tpot, share = both(cpu, 0.1, noise=0.15)
    assert ttft <= 1.10
    assert tpot <= 1.10
    assert share >= 0.45


def test_alone_backfill_has_the_whole_step():
    run = Clockwork(Load(cpu, 0.0, backfill=ALWAYS))
    run.run(5.0)
    assert run.scheduler.stats().backfill.limit == float("inf")


def test_limits_are_those_of_requests_alone():
    """Nothing drifts: what would be without backfill is found while backfill is there."""
    load = Load(cpu, 3.2)
    alone = Clockwork(load).run().p95()
    run = Clockwork(replace(load, backfill=ALWAYS, slowdown=0.3))
    run.run()
    backfill = run.scheduler._backfill
    for latency, seconds in zip((backfill._first, backfill._each), alone, strict=True):
        assert latency._slow == pytest.approx(seconds, rel=0.2)
