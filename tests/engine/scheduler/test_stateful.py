"""Scheduler and KV cache as one state machine under random faults.

SIXFOLD_STATEFUL_EXAMPLES sets the number of runs (and makes them random); `slow` runs more.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.scheduler.simulation import Simulation, World
from sixfold.core.config import BLOCK_SIZE

EXAMPLES = int(os.environ.get("SIXFOLD_STATEFUL_EXAMPLES", "0"))

SEGMENTS = (20, 32, 44, 64)
"""Lengths of the prefix tree's edges: whole blocks, parts of one, and across their borders."""

worlds = st.builds(
    World,
    windows=st.sampled_from([(None,), (None, 40), (64, None), (None, 1), (48,), (None, 33, 96)]),
    num_blocks=st.integers(9, 24),
    max_num_seqs=st.integers(2, 6),
    budget=st.sampled_from([3, 16, 31, 32, 33, 64, 100, 200]),
    max_model_len=st.sampled_from([200, 256, 320]),
    policy=st.sampled_from(["fcfs", "priority"]),
    batching=st.sampled_from(["continuous", "continuous", "static", "dynamic"]),
    slowdown=st.sampled_from([0.0, 0.1, 100.0]),
    caching=st.sampled_from([True, True, True, False]),
    hasher=st.sampled_from(
        [None, None, None, lambda parent, tokens: bytes([sum(parent + tokens) & 7])]
    ),
)


def tree_prompt(path: list[int], tail: int) -> list[int]:
    """Equal paths give equal prompts."""
    prompt: list[int] = []
    for depth, branch in enumerate(path):
        length = SEGMENTS[(depth + branch) % len(SEGMENTS)]
        prompt += [(branch * 7 + depth * 3 + i) % 50 for i in range(length)]
    return prompt + [49] * tail or [1]


class SchedulerMachine(RuleBasedStateMachine):
    """Rules are what users, the engine and fate can do."""

    sim: Simulation

    @initialize(world=worlds)
    def start(self, world: World) -> None:
        self.sim = Simulation(world)
        self.shrunk = 0

    @rule(
        paths=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=4), min_size=1, max_size=5),
        tail=st.integers(0, 5),
        salt=st.sampled_from(["", "", "tenant"]),
        priority=st.integers(-1, 1),
        max_tokens=st.sampled_from([2, 9, 40, 80, None]),
        stop_at=st.sampled_from([1, 5, 33, 70]),
        deadline=st.sampled_from([None, None, None, None, 2, 15]),
        prompt_logprobs=st.sampled_from([None, None, None, None, 0]),
        backfill=st.sampled_from([False, False, True]),
    )
    def submit(self, paths, tail, deadline, **fields) -> None:
        """A burst of requests that share prefixes."""
        if deadline is not None:
            fields["deadline"] = self.sim.now + deadline
        for path in paths:
            self.sim.submit(tree_prompt(path, tail), **fields)
        self.sim.check()

    @precondition(lambda self: self.sim.ended)
    @rule(data=st.data(), extra=st.integers(0, 40), same_salt=st.booleans())
    def next_turn(self, data, extra, same_salt) -> None:
        """A chat's next message: the old prompt and answer come back."""
        name = data.draw(st.sampled_from(sorted(self.sim.ended)))
        job = self.sim.ended[name][1]
        salt = job.request.cache_salt if same_salt else "other"
        self.sim.submit(job.tokens + [7] * extra, salt=salt, max_tokens=20)

    @precondition(lambda self: self.sim.live)
    @rule(data=st.data())
    def cancel(self, data) -> None:
        self.sim.cancel(data.draw(st.sampled_from(sorted(self.sim.live))))

    @precondition(lambda self: self.sim.live)
    @rule()
    def step(self) -> None:
        self.sim.step()

    @precondition(lambda self: self.sim.live)
    @rule(count=st.integers(2, 40))
    def steps(self, count) -> None:
        for _ in range(count):
            if not self.sim.live:
                break
            self.sim.step()

    @precondition(lambda self: self.sim.live)
    @rule(count=st.integers(1, 20), seed=st.integers(0, 1000))
    def steps_with_guesses(self, count, seed) -> None:
        for number in range(count):
            if not self.sim.live:
                break
            self.sim.step(guess=seed + number)

    @precondition(lambda self: self.sim.live)
    @rule(guess=st.sampled_from([None, 1, 2]))
    def step_with_abort(self, guess) -> None:
        self.sim.step(abort_before_update=True, guess=guess)

    @precondition(lambda self: self.sim.live)
    @rule(guess=st.sampled_from([None, 3, 4]))
    def step_that_fails(self, guess) -> None:
        self.sim.step(fails=True, guess=guess)

    @precondition(lambda self: self.sim.live)
    @rule(data=st.data())
    def preempt(self, data) -> None:
        name = data.draw(st.sampled_from(sorted(self.sim.live)))
        self.sim.scheduler.preempt(name)
        self.sim.check()

    @rule()
    def reset_cache(self) -> None:
        assert self.sim.scheduler.reset_prefix_cache()
        assert all(pool.num_cached == 0 for pool in self.sim.kv.pools)
        self.sim.check()

    @rule(count=st.integers(1, 20))
    def shrink_pool(self, count) -> None:
        """Memory runs short, but never so that the largest request could not run alone."""
        states = self.sim.scheduler._requests.values()
        need = max((-(-state.max_len // BLOCK_SIZE) for state in states), default=1)
        room = min(pool.num_total for pool in self.sim.kv.pools) - need
        self.sim.kv.shrink(max(0, min(count, room)))
        self.sim.check()

    @rule()
    def restore_pool(self) -> None:
        self.sim.kv.restore()
        self.sim.check()

    @rule(seconds=st.sampled_from([1, 5, 50]))
    def time_passes(self, seconds) -> None:
        self.sim.now += seconds

    def teardown(self) -> None:
        """Faults are over: everybody gets an answer, and the blocks come back."""
        if hasattr(self, "sim"):
            self.sim.run()


def run(examples: int, random: bool) -> None:
    run_state_machine_as_test(
        SchedulerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=not random,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_fault_breaks_an_invariant() -> None:
    run(EXAMPLES or 150, random=EXAMPLES > 0)


@pytest.mark.slow
def test_no_fault_breaks_an_invariant_in_many_random_runs() -> None:
    run(EXAMPLES or 3000, random=True)
