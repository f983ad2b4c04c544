"""Backfill runs in what interactive requests leave, and yields to them within one step."""

import pytest

from engine.scheduler.simulation import Simulation, World
from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.scheduler.output import SchedulerOutput

PROMPT = [1 + i % 40 for i in range(4 * BLOCK_SIZE + 3)]


def computed(output: SchedulerOutput) -> set[str]:
    """Who has tokens in a step."""
    return {chunk.request_id for chunk in output.chunks}


def filled(count: int, prompt: int = 20, steps: int = 3, **world) -> tuple[Simulation, list[str]]:
    """A simulation in which so many backfill requests run."""
    sim = Simulation(World(**({"max_num_seqs": 4, "budget": 200, "slowdown": 100.0} | world)))
    names = [
        sim.submit([token] * prompt, max_tokens=60, backfill=True) for token in range(1, count + 1)
    ]
    for _ in range(steps):
        sim.step()
    assert sim.scheduler.stats().backfill.running == count
    return sim, [name for name in names if name is not None]


@pytest.mark.parametrize("batching", ["continuous", "static"])
def test_a_slot_is_given_up_within_one_step(batching):
    sim, names = filled(4, batching=batching)
    urgent = sim.submit([9] * 30)
    output = sim.step()
    assert urgent in computed(output)
    assert output.preempted == [names[-1]]
    assert output.num_decodes == 3
    sim.run()


def test_a_burst_takes_all_slots_in_one_step():
    sim, names = filled(4)
    burst = {sim.submit([token] * 10) for token in range(20, 24)}
    output = sim.step()
    assert computed(output) == burst
    assert set(output.preempted) == set(names)
    sim.run()


def test_blocks_are_given_up_within_one_step():
    sim, _ = filled(3, prompt=5 * BLOCK_SIZE, num_blocks=20)
    urgent = sim.submit([9] * (7 * BLOCK_SIZE))
    output = sim.step()
    assert urgent in computed(output)
    assert 1 <= len(output.preempted) < 3, "no more than it needs"
    sim.run()


def test_a_decode_takes_its_block_from_backfill():
    sim = Simulation(World(max_num_seqs=4, budget=400, num_blocks=10, slowdown=100.0))
    urgent = sim.submit([9] * (3 * BLOCK_SIZE), max_tokens=3 * BLOCK_SIZE)
    sim.step()
    sim.submit([8] * (5 * BLOCK_SIZE), max_tokens=40, backfill=True)
    preempted = []
    while urgent in sim.live:
        output = sim.step()
        assert urgent in computed(output)
        preempted += output.preempted
    assert urgent not in preempted
    sim.run()


def test_nobody_waits_for_a_prefix_that_backfill_computes():
    sim = Simulation(World(max_num_seqs=4, budget=40, slowdown=100.0))
    slow = sim.submit(list(PROMPT), backfill=True)
    sim.step()
    urgent = sim.submit(list(PROMPT))
    output = sim.step()
    assert urgent in computed(output)
    assert output.preempted == [slow]
    sim.run()
    assert all(count == 1 for count in sim.computed.values()), "a block was computed twice"


def test_backfill_waits_for_a_prefix_that_others_compute():
    sim = Simulation(World(max_num_seqs=4, budget=40, slowdown=100.0))
    urgent = sim.submit(list(PROMPT))
    slow = sim.submit(list(PROMPT), backfill=True)
    assert computed(sim.step()) == {urgent}
    sim.run()
    assert slow not in sim.live
    assert all(count == 1 for count in sim.computed.values())


def test_priority_does_not_lift_backfill_above_others():
    sim = Simulation(World(max_num_seqs=1, policy="priority", slowdown=100.0))
    slow = sim.submit([1, 2, 3], priority=-5, backfill=True)
    sim.step()
    urgent = sim.submit([4, 5, 6], priority=5)
    output = sim.step()
    assert output.preempted == [slow]
    assert computed(output) == {urgent}
    sim.run()


def test_a_static_batch_is_formed_of_interactive_requests_only():
    sim, _ = filled(2, batching="static")
    first = sim.submit([9] * 10, max_tokens=30)
    sim.step()
    late = sim.submit([8] * 10)
    extra = sim.submit([7] * 10, backfill=True)
    output = sim.step()
    assert first in computed(output)
    assert late not in computed(output), "nobody joins a batch that runs"
    assert extra in computed(output)
    sim.run()


def test_cancelled_backfill_frees_its_blocks():
    sim, names = filled(3, prompt=3 * BLOCK_SIZE)
    waiting = sim.submit([9] * 9, backfill=True)
    for name in [*names, waiting]:
        sim.cancel(name)
    assert all(pool.num_used == 0 for pool in sim.kv.pools)
    assert sim.scheduler.stats().backfill.waiting == 0
