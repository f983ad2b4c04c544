"""Admission by policy, and the baseline that sets memory aside: who starts when."""

from engine.scheduler.simulation import Simulation, World
from sixfold.core.config import BLOCK_SIZE


def started(sim: Simulation) -> set[str]:
    """Requests that have left the queue."""
    return {name for name, job in sim.live.items() if job.first_chunk is not None}


def test_a_dynamic_batch_waits_for_company_but_not_for_ever():
    sim = Simulation(World(batching="dynamic", delay=3.0, max_num_seqs=4))
    sim.submit([1, 2, 3], max_tokens=40)
    sim.step()
    sim.submit([1, 2, 4], max_tokens=40)
    sim.step()
    assert not started(sim)
    sim.step()
    assert len(started(sim)) == 2
    late = sim.submit([1, 2, 5])
    sim.step()
    assert late not in started(sim), "nobody joins a batch that runs"
    sim.run()


def test_a_full_dynamic_batch_starts_at_once():
    sim = Simulation(World(batching="dynamic", delay=1000.0, max_num_seqs=3))
    sim.submit([1, 2, 3])
    sim.step()
    assert not started(sim)
    for token in (4, 5, 6):
        sim.submit([1, 2, token])
    sim.step()
    assert len(started(sim)) == 3


def test_contiguous_sequences_take_the_room_of_the_longest():
    world = World(num_blocks=40, max_model_len=320, max_num_seqs=8, budget=200)
    running = {}
    for reserves in (False, True):
        sim = Simulation(World(**{**vars(world), "reserves": reserves}))
        for token in range(8):
            sim.submit([token, 1, 2], max_tokens=40)
        sim.step()
        running[reserves] = sim.scheduler.num_running
        sim.run()
    assert running == {False: 8, True: 40 // (320 // BLOCK_SIZE)}


def test_contiguous_sequences_share_nothing():
    sim = Simulation(World(num_blocks=40, reserves=True))
    for _ in range(2):
        sim.submit(list(range(40)), max_tokens=2)
        sim.run()
    assert sim.scheduler.stats().prefix_cache_hits == 0
