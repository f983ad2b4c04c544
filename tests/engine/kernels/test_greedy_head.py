"""The best token without logits: the very one that is found in the logits, whatever they are."""

import numpy as np
import pytest
from op_table import Step

from sixfold.engine.kernels import packing
from sixfold.engine.kernels.ops import NativeModel, NativeOptions, tiers
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.kernels.reference_sampler import SampleParams, sample_row
from sixfold.engine.kernels.sampling import SAMPLE_PARAMS

K = 32


class Dense:
    """A vector as models have it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def dense(self) -> np.ndarray:
        return self.array


def model_of(tier: str, threads: int, rows: int, table: np.ndarray) -> NativeModel:
    """Hidden states are random rows; logits are their products with the table."""
    x = np.random.default_rng(rows).integers(-3, 4, (rows, K)).astype(np.float32)
    b = ProgramBuilder()
    b.begin_layer()
    b.logits(b.embed("x", K), "n", 1e-6, "table", len(table))
    weights = {
        "x": packing.PackedWeight("f32", *x.shape, packing.pack_f32(x)),
        "table": packing.PackedWeight("f32", *table.shape, packing.pack_f32(table)),
        "n": Dense(np.ones(K, np.float32)),
    }
    model = NativeModel(b.build(), weights, [], "f32", NativeOptions(tier, threads, rows, 1))
    model.forward(Step(np.arange(rows, dtype=np.int32)))
    return model


def greedy(count: int) -> np.ndarray:
    params = np.zeros(count, SAMPLE_PARAMS)
    params["num_logprobs"] = -1
    params["repetition_penalty"] = params["top_p"] = 1.0
    return params


def strange_table(vocab: int) -> np.ndarray:
    """Rows that repeat, so that logits tie; some infinite, some not a number."""
    rng = np.random.default_rng(vocab)
    table = rng.integers(-2, 3, (vocab, K)).astype(np.float32)
    table[vocab // 2 :] = table[: vocab - vocab // 2]
    if vocab > 8:
        table[rng.integers(vocab)] = np.nan
        table[rng.integers(vocab)] = np.inf
    return table


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("vocab", [1, 7, 31, 32, 33, 77, 1000])
def test_as_in_the_logits(tier: str, threads: int, vocab: int) -> None:
    for rows in (1, 6, 7, 70, 131):
        model = model_of(tier, threads, rows, strange_table(vocab))
        every = np.arange(rows, dtype=np.int32)
        found = model.sample(every, np.full(rows, -1, np.int32), greedy(rows))
        want = [sample_row(row, SampleParams(temperature=0.0)) for row in model.logits(every)]
        assert found["token"].tolist() == [w.token for w in want]
        assert found["status"].tolist() == [0 if w.ok else 1 for w in want]
        assert not found["num_top"].any() and not found["rank"].any()


@pytest.mark.parametrize("tier", tiers())
def test_no_candidate(tier: str) -> None:
    model = model_of(tier, 2, 3, np.full((50, K), np.nan, np.float32))
    found = model.sample(np.arange(3, dtype=np.int32), np.full(3, -1, np.int32), greedy(3))
    assert found["status"].tolist() == [1, 1, 1] and found["token"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("tier", tiers())
def test_among_rows_that_want_more(tier: str) -> None:
    """Each row as alone, whatever its neighbours ask for."""
    rows, vocab = 90, 77
    table = np.random.default_rng(0).normal(0, 0.3, (vocab, K)).astype(np.float32)
    model = model_of(tier, 2, rows, table)
    every = np.arange(rows, dtype=np.int32)
    params, targets = greedy(rows), np.full(rows, -1, np.int32)
    params["temperature"][::3] = 0.9
    params["seed"] = every
    params["num_logprobs"][1::5] = 2
    targets[2::7] = every[2::7] % vocab
    params["num_logprobs"][2::7] = 1
    together = model.sample(every, targets, params)
    for i in range(rows):
        alone = model.sample(every[i : i + 1], targets[i : i + 1], params[i : i + 1])
        assert alone[0] == together[i]
