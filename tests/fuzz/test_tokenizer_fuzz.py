"""Runs a few thousand mutants of every tokenizer target; the seeds make it repeatable."""

import random

import pytest

from fuzz.mutate import mutate
from fuzz.tokenizer_targets import TARGETS


@pytest.mark.parametrize(("name", "seeds", "target"), TARGETS, ids=[t[0] for t in TARGETS])
def test_mutants_give_errors_that_users_can_read(name, seeds, target):
    random_state = random.Random(f"sixfold {name}")
    for seed in seeds:
        target(seed)
        for _ in range(600 // len(seeds)):
            target(mutate(seed, random_state))
