"""Outlier columns: found where they are, kept in a file, found again where it does not fit."""

from pathlib import Path

import numpy as np
import pytest

from sixfold.engine.kernels import packing
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.tokenizer import load_tokenizer
from sixfold.engine.models.weights import load_weights
from sixfold.engine.runner import calibration
from sixfold.engine.runner.calibration import choose, observe, with_outliers
from sixfold.engine.runner.executor import build_program
from sixfold.engine.runner.step_input import StepInput

MODEL = Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    checkpoint = open_checkpoint(MODEL)
    weights = load_weights(checkpoint, "int8", tmp_path_factory.mktemp("packed"))
    return weights, build_program(checkpoint.config), load_tokenizer(MODEL).encode


def test_sizes_are_those_of_the_reference(tiny):
    weights, program, encode = tiny
    ids = np.array(encode("Rivers and stones, stones and rivers.")[:40], np.int32)
    tables = [np.arange(1, 4, dtype=np.int32)[None] for _ in program.kv_groups]
    step = StepInput(ids, np.arange(len(ids), dtype=np.int32),
                     np.array([0, len(ids)], np.int32), np.zeros(1, np.int32), tables)  # fmt: skip
    native = observe(program, weights, step, [4] * len(tables))
    slow = calibration._observe_reference(program, weights, step, [4] * len(tables))
    assert set(slow) <= set(native)
    for name, sizes in slow.items():
        np.testing.assert_allclose(native[name], sizes, rtol=0.02, atol=0.02 * sizes.max())


def test_the_largest_columns_are_chosen():
    sizes = np.ones(160, np.float32)
    sizes[[7, 150, 31, 32]] = [9, 8, 7, 6]
    weight = packing.PackedWeight("w8", 8, 160, np.zeros((1, 0), np.uint8))
    found = choose({"w": sizes}, {"w": weight, "not observed": weight})
    assert set(found) == {"w"}
    assert {7, 31, 32, 150} <= set(found["w"]) and len(found["w"]) == 10
    assert found["w"] == sorted(found["w"])


def test_the_file_saves_the_search_and_is_checked(tiny, tmp_path, monkeypatch):
    weights, program, encode = tiny
    path = tmp_path / "columns.json"
    first = with_outliers(weights, program, encode, path)
    kept = {name: w.outliers.tolist() for name, w in first.items() if hasattr(w, "outliers")}
    assert any(kept.values()) and path.is_file()

    looked = []
    monkeypatch.setattr(calibration, "observe", lambda *a: looked.append(a) or observe(*a))
    again = with_outliers(weights, program, encode, path)
    assert not looked
    assert {n: w.outliers.tolist() for n, w in again.items() if hasattr(w, "outliers")} == kept
    for bad in (
        b"{",
        b'{"version":1,"columns":{"no such weight":[0,1]}}',
        b'{"version":1,"columns":{"embed.weight":[0,100000000]}}',
        b'{"version":1,"columns":{"embed.weight":[1,0]}}',
        b'{"version":1,"columns":{"embed.weight":[0]}}',
        b'{"version":99,"columns":{}}',
    ):
        path.write_bytes(bad)
        repaired = with_outliers(weights, program, encode, path)
        assert {
            n: w.outliers.tolist() for n, w in repaired.items() if hasattr(w, "outliers")
        } == kept
    assert len(looked) == 6


def test_a_directory_that_cannot_be_written_costs_only_the_file(tiny, tmp_path):
    weights, program, encode = tiny
    found = with_outliers(weights, program, encode, tmp_path / "missing" / "columns.json")
    assert len(found["layers.0.down.weight"].outliers)


def test_weights_that_are_not_quantised_stay_as_they_are(tmp_path):
    checkpoint = open_checkpoint(MODEL)
    weights = load_weights(checkpoint, "bf16", tmp_path)
    path = tmp_path / "columns.json"
    assert with_outliers(weights, build_program(checkpoint.config), list, path) is weights
    assert not path.exists()
