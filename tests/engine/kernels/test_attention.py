"""Attention of the native core against the reference: prefill, chunks and decodes in one step.

Each case plays the same little serving session on both executors and compares every step. The
native result is also compared with itself: batching, chunking and threads must not change a bit.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from sixfold.core.config import BLOCK_SIZE, RopeConfig
from sixfold.engine.kernels import packing
from sixfold.engine.kernels.ops import NativeModel, NativeOptions, tiers
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.kernels.reference import DenseWeight, ReferenceModel
from sixfold.engine.runner.step_input import StepInput

LONGEST = 1600
SEQUENCES = 5
TABLE = -(-LONGEST // BLOCK_SIZE)
LLAMA2 = RopeConfig()
LLAMA3 = RopeConfig(theta=500000.0, llama3=(8.0, 1.0, 4.0, 8192))


@dataclass(frozen=True)
class Case:
    """`heads` is (H, KH, D)."""

    heads: tuple[int, int, int]
    window: int | None = None
    norms: bool = False
    rope: RopeConfig = LLAMA2


CASES = {
    "mha": Case((2, 2, 32)),
    "gqa": Case((6, 2, 64)),
    "smollm2": Case((9, 3, 64), rope=RopeConfig(theta=100000.0)),
    "many_per_group": Case((10, 1, 32)),
    "wide": Case((4, 1, 256), norms=True, rope=RopeConfig(theta=1e6, linear_factor=8.0)),
    "qwen3": Case((4, 2, 128), norms=True),
    "llama3": Case((4, 2, 64), rope=LLAMA3),
    "window": Case((4, 2, 64), window=40),
    "window_of_one": Case((2, 1, 32), window=1),
    "long_window": Case((4, 1, 64), window=600, norms=True),
}


class Session:
    """One attention layer, in either executor, over a random vocabulary of qkv rows."""

    def __init__(self, case: Case, kv_dtype: str, tier: str | None, threads: int = 2):
        h, kh, d = case.heads
        rng = np.random.default_rng(1)
        rows = rng.normal(0, 1, (512, (h + 2 * kh) * d)).astype(np.float32)
        weights = {"x": packing.PackedWeight("f32", *rows.shape, packing.pack_f32(rows))}
        weights["qn"] = DenseWeight(rng.uniform(0.5, 1.5, d).astype(np.float32))
        weights["kn"] = DenseWeight(rng.uniform(0.5, 1.5, d).astype(np.float32))
        b = ProgramBuilder()
        b.begin_layer()
        norms = ("qn", "kn", 1e-6) if case.norms else None
        x = b.embed("x", rows.shape[1])
        self.out = b.attention(x, case.heads, d**-0.5, case.rope, case.window, norms)
        blocks = SEQUENCES * TABLE + 1
        if tier is None:
            self.model = ReferenceModel(b.build(), weights, [blocks], kv_dtype)
        else:
            options = NativeOptions(tier, threads, 4096, LONGEST)
            self.model = NativeModel(b.build(), weights, [blocks], kv_dtype, options)
        order = rng.permutation(np.arange(1, blocks, dtype=np.int32))
        self.tables = [np.ascontiguousarray(order.reshape(SEQUENCES, TABLE))]
        self.tokens = rng.integers(0, 512, (SEQUENCES, LONGEST)).astype(np.int32)

    def step(self, *chunks: tuple[int, int, int]) -> list[np.ndarray]:
        """Compute tokens [start, stop) of sequences: chunks (sequence, start, stop)."""
        lengths = [stop - start for _, start, stop in chunks]
        step = StepInput(
            np.concatenate([self.tokens[s, a:b] for s, a, b in chunks]),
            np.concatenate([np.arange(a, b, dtype=np.int32) for _, a, b in chunks]),
            np.cumsum([0, *lengths]).astype(np.int32),
            np.array([s for s, _, _ in chunks], np.int32),
            self.tables,
        )
        self.model.forward(step)
        return np.split(self.model.value(self.out.id), np.cumsum(lengths)[:-1])


SESSION = [
    [(0, 0, 1), (1, 0, 33), (2, 0, 70)],
    [(0, 1, 2), (2, 70, 71), (1, 33, 100), (3, 0, 530)],
    [(3, 530, 531), (0, 2, 3), (2, 71, 72), (1, 100, 101)],
    [(2, 72, 73), (3, 531, 1100), (0, 3, 64)],
    [(0, 64, 65), (1, 101, 102), (2, 73, 74), (3, 1100, 1101)],
]


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_session_equals_reference(tier, kv_dtype, name):
    """Bounds are relative to values of size 1 (attention returns averages of them).

    f32: rounding of long dot products. bf16: a key, query or weight may fall to the other side
    of a rounding tie, which is 2^-8 of one of D products, or of one key's weight.
    """
    native = Session(CASES[name], kv_dtype, tier)
    reference = Session(CASES[name], kv_dtype, None)
    for chunks in SESSION:
        for got, want in zip(native.step(*chunks), reference.step(*chunks), strict=True):
            size = np.abs(want).max()
            worst = float(np.abs(got - want).max()) / size
            assert worst <= (2e-5 if kv_dtype == "f32" else 2**-7), f"{worst:.2e}"


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", ["gqa", "many_per_group", "window", "long_window"])
def test_batch_chunks_and_threads_change_nothing(tier, kv_dtype, name):
    """Alone in one piece, against mixed with others, in odd chunks, on another thread count."""
    length = 1100
    whole = Session(CASES[name], kv_dtype, tier, threads=1).step((3, 0, length))[0]
    other = Session(CASES[name], kv_dtype, tier, threads=2)
    rng = np.random.default_rng(7)
    start, pieces = 0, []
    while start < length:
        stop = min(length, start + int(rng.choice([1, 1, 2, 31, 32, 33, 100, 257])))
        beside = [(s, start % 64, start % 64 + 1 + s) for s in (0, 1) if rng.random() < 0.7]
        pieces.append(other.step(*beside, (3, start, stop))[-1])
        start = stop
    assert np.array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
def test_shared_and_recycled_blocks(tier, kv_dtype):
    """A sequence reads a prefix that another writes in the same step; old NaN never leaks."""
    session = Session(CASES["gqa"], kv_dtype, tier)
    alone = session.step((0, 0, 100))[0]
    session.model.arena(0)[:] = 0xFF  # every earlier value becomes NaN
    session.tables[0][1, :2] = session.tables[0][0, :2]
    session.tokens[1] = session.tokens[0]
    first, second = session.step((0, 0, 64), (1, 64, 100))
    assert np.array_equal(np.concatenate([first, second]), alone)
