"""Attention of the native core against the reference: prefill, chunks and decodes in one step.

Each case plays the same little serving session on both executors and compares every step. The
native result is also compared with itself: batching, chunking and threads must not change a bit.
"""

import numpy as np
import pytest

from engine.kernels.attention_session import Case, Session
from sixfold.core.config import RopeConfig
from sixfold.engine.kernels.ops import tiers

LLAMA3 = RopeConfig(theta=500000.0, llama3=(8.0, 1.0, 4.0, 8192))
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


SESSION = [
    [(0, 0, 1), (1, 0, 33), (2, 0, 70)],
    [(0, 1, 2), (2, 70, 71), (1, 33, 100), (3, 0, 530)],
    [(3, 530, 531), (0, 2, 3), (2, 71, 72), (1, 100, 101)],
    [(2, 72, 73), (3, 531, 1100), (0, 3, 64)],
    [(0, 64, 65), (1, 101, 102), (2, 73, 74), (3, 1100, 1101)],
]


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_session_equals_reference(tier, kv_dtype, name):
    """Bounds are relative to values of size 1 (attention returns averages of them).

    f32: rounding of long dot products. bf16: a key, query or weight may fall to the other side
    of a rounding tie, which is 2^-8 of one of D products, or of one key's weight. int8: the same
    with 2^-7, and the AVX-512 tiers round queries and weights to 8 bits, which the reference
    does not.
    """
    bound = {"f32": 2e-5, "bf16": 2**-7, "int8": 2**-5 if tier.startswith("avx512") else 2**-7}
    native = Session(CASES[name], kv_dtype, tier)
    reference = Session(CASES[name], kv_dtype, None)
    for chunks in SESSION:
        for got, want in zip(native.step(*chunks), reference.step(*chunks), strict=True):
            size = np.abs(want).max()
            worst = float(np.abs(got - want).max()) / size
            assert worst <= bound[kv_dtype], f"{worst:.2e}"


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_naive_attention_equals_reference(tier, kv_dtype, name):
    """The baseline rounds weights to bf16 after they are normalised, the tiled kernels before."""
    bound = {"f32": 2e-5, "bf16": 2**-7}
    native = Session(CASES[name], kv_dtype, tier, naive=True)
    reference = Session(CASES[name], kv_dtype, None)
    for chunks in SESSION:
        for got, want in zip(native.step(*chunks), reference.step(*chunks), strict=True):
            worst = float(np.abs(got - want).max()) / np.abs(want).max()
            assert worst <= bound[kv_dtype], f"{worst:.2e}"


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16", "int8"])
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


LENGTHS = {0: 1200, 1: 1100, 2: 1030, 3: 700, 4: 600}
DEPTHS = {1: 32, 2: 32, 3: 17, 4: 16}
"""Blocks at the beginning that are those of sequence 0: two levels of sharing, and a ragged one."""


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16", "int8"])
@pytest.mark.parametrize(("name", "stacks", "threads"), [
    ("smollm2", True, 2), ("mha", True, 1), ("wide", True, 2), ("many_per_group", False, 2),
    ("window", False, 2),
])  # fmt: skip
def test_decodes_stacked_over_shared_blocks_change_nothing(tier, kv_dtype, name, stacks, threads):
    """Sequences that share blocks, against the same ones with copies of their own."""
    apart, shared = (Session(CASES[name], kv_dtype, tier, threads) for _ in range(2))
    for session in (apart, shared):
        for s, depth in DEPTHS.items():
            session.tokens[s, : 32 * depth] = session.tokens[0, : 32 * depth]
    for s, depth in DEPTHS.items():
        shared.tables[0][s, :depth] = shared.tables[0][0, :depth]
        apart.step((s, 0, LENGTHS[s]))
    for session in (apart, shared):
        session.step((0, 0, LENGTHS[0]))
    shared.step(*((s, 32 * depth, LENGTHS[s]) for s, depth in DEPTHS.items()))
    for k in range(3):
        chunks = [(s, length + k, length + k + 1) for s, length in LENGTHS.items()]
        for one, other in zip(shared.step(*chunks), apart.step(*chunks), strict=True):
            assert np.array_equal(one, other)
        assert apart.model.stacked() == 0
        heads = CASES[name].heads[1]
        # All five share a partial of 512 keys; three of them another one.
        assert shared.model.stacked() == (8 * heads if stacks else 0)


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("kv_dtype", ["f32", "bf16", "int8"])
def test_shared_and_recycled_blocks(tier, kv_dtype):
    """A sequence reads a prefix that another writes in the same step; old NaN never leaks."""
    session = Session(CASES["gqa"], kv_dtype, tier)
    alone = session.step((0, 0, 100))[0]
    session.model.arena(0)[:] = 0xFF  # every earlier value becomes NaN
    session.tables[0][1, :2] = session.tables[0][0, :2]
    session.tokens[1] = session.tokens[0]
    first, second = session.step((0, 0, 64), (1, 64, 100))
    assert np.array_equal(np.concatenate([first, second]), alone)
