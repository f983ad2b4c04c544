"""A prefix that one request computes is not computed again by those that wait for it."""

import pytest

from engine.scheduler.simulation import Simulation, World
from sixfold.core.config import BLOCK_SIZE

PROMPT = [1 + i % 40 for i in range(4 * BLOCK_SIZE + 3)]
"""Four whole blocks and a rest, which every request computes for itself."""
REST = 3


def started(count: int, **world: int) -> tuple[Simulation, list[str]]:
    """A simulation with so many equal prompts, submitted at once."""
    simulation = Simulation(World(max_num_seqs=4, **({"budget": 200} | world)))
    names = [simulation.submit(list(PROMPT), max_tokens=2) for _ in range(count)]
    return simulation, [name for name in names if name is not None]


@pytest.mark.parametrize("budget", [40, 64, 200])
def test_equal_prompts_in_flight_compute_each_block_once(budget: int) -> None:
    simulation, names = started(3, budget=budget)
    assert len(names) == 3
    simulation.run()
    blocks = list(simulation.computed.values())
    assert blocks == [1] * 4, "a block was computed twice"
    # All of the prompt once, twice its rest; each request's first output token is fed back once.
    assert simulation.num_computed_tokens == len(PROMPT) + 2 * REST + 3


def test_without_the_cache_everybody_computes_everything() -> None:
    simulation = Simulation(World(max_num_seqs=4, budget=200, caching=False))
    for _ in range(3):
        simulation.submit(list(PROMPT), max_tokens=2)
    simulation.run()
    assert set(simulation.computed.values()) == {3}


def test_other_salts_share_nothing() -> None:
    simulation = Simulation(World(max_num_seqs=4, budget=200))
    for salt in ("a", "b"):
        simulation.submit(list(PROMPT), salt=salt, max_tokens=2)
    simulation.run()
    assert len(simulation.computed) == 8


@pytest.mark.parametrize("cancelled_after", [1, 2])
def test_a_waiter_takes_over_from_a_cancelled_request(cancelled_after: int) -> None:
    simulation, (first, *waiting) = started(3, budget=40)
    for _ in range(cancelled_after):
        chunks = simulation.step().chunks
        assert [chunk.request_id for chunk in chunks] == [first], "the others wait for the first"
    simulation.cancel(first)
    simulation.run()
    ended = {name.partition("#")[0]: reason for name, (reason, _) in simulation.ended.items()}
    assert [ended[name] for name in waiting] == ["length", "length"]
    # What the first had finished is kept; what it had begun is computed anew, by one of them.
    assert all(count == 1 for count in simulation.computed.values())
    assert len(simulation.computed) == 4


def test_preemption_of_the_one_that_computes_holds_nobody_up() -> None:
    simulation, names = started(3, budget=40)
    first = names[0]
    simulation.step()
    assert simulation.scheduler.preempt(first)
    output = simulation.step()
    assert first in output.preempted
    assert [chunk.request_id for chunk in output.chunks] != [first], "what was preempted waits"
    simulation.run()
    ended = {name.partition("#")[0]: reason for name, (reason, _) in simulation.ended.items()}
    assert [ended[name] for name in names] == ["length"] * 3
    # What it had finished was offered to the cache, so not even the preempted computes it again.
    assert list(simulation.computed.values()) == [1] * 4
