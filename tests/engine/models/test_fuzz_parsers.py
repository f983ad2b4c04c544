"""Mutants of model files: only SixfoldError may come out, and soon.

SIXFOLD_FUZZ_CASES sets how many (2000 by default); `tests/fuzz/run_fuzz.py` runs by time.
"""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.model_targets import TARGETS
from sixfold.core.errors import SixfoldError
from sixfold.engine.models.json_file import parse_json
from sixfold.engine.models.safetensors_file import read_safetensors

CASES = int(os.environ.get("SIXFOLD_FUZZ_CASES", "2000"))


@pytest.mark.parametrize(
    ("name", "seeds", "target", "mutate"), TARGETS, ids=[t[0] for t in TARGETS]
)
def test_mutants_give_errors_that_users_can_read(name, seeds, target, mutate):
    random_state = random.Random(f"sixfold {name}")
    for seed in seeds:
        target(seed)
        for _ in range(CASES // len(TARGETS) // len(seeds)):
            target(mutate(seed, random_state))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_an_error(data):
    try:
        assert isinstance(parse_json(data, "the test"), dict)
    except SixfoldError as error:
        assert error.hint


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_are_safetensors_or_an_error(tmp_path_factory, header, length):
    path = tmp_path_factory.mktemp("any") / "m.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header)
    try:
        read_safetensors(path)
    except SixfoldError as error:
        assert error.hint
