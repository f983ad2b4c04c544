"""Every op of every tier on shapes, rows and values drawn at random, against the reference.

SIXFOLD_OP_SHAPES sets how many of each (`make test-all`: 10,000).
"""

import os

import numpy as np
import pytest

from engine.kernels.attention_session import Case, Session
from engine.kernels.op_table import (
    FORMATS,
    WIDE,
    Step,
    check,
    linear_bound,
    packed,
    run_all,
    values,
)
from sixfold.engine.kernels import packing
from sixfold.engine.kernels.ops import NativeModel, NativeOptions, tiers
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.kernels.reference import DenseWeight, ReferenceModel

SHAPES = int(os.environ.get("SIXFOLD_OP_SHAPES", "15"))
KINDS = ("normal", "zeros", "outliers", "huge", "tiny")

seeds = pytest.mark.parametrize("part", range(5))
"""Pieces of the seeds: a failure names one."""


def draws(part: int, name: str) -> list[tuple[int, np.random.Generator]]:
    found = range(part, SHAPES, 5)
    return [(seed, np.random.default_rng([seed, *name.encode()])) for seed in found]


def size(rng: np.random.Generator, most: int, *likely: int) -> int:
    """From 1 on; borders and their neighbours often."""
    if rng.random() < 0.5:
        return max(1, int(rng.choice(likely)) + int(rng.integers(-1, 2)))
    return int(rng.integers(1, most + 1))


def activations(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    return values(str(rng.choice(KINDS)), rows, width, int(rng.integers(1 << 30)))


@seeds
def test_linear(part):
    for seed, rng in draws(part, "linear"):
        form = str(rng.choice(FORMATS + WIDE))
        n, k = size(rng, 200, 32, 64, 96), size(rng, 700, 32, 128, 256, 576, 640)
        rows = size(rng, 70, 6, 12, 33, 64)
        weight, magnitude = packed(form, values("normal", n, k, seed))
        bias = DenseWeight(values("normal", 1, n, seed=2)[0])
        x = activations(rng, rows, k)
        got, want = run_all(tiers(), lambda b, v, n=n: b.linear(v, "w", n, "b"), x,
                            {"w": weight, "b": bias}, int(rng.integers(1, 4)))  # fmt: skip
        bound = linear_bound(form, x, magnitude) + 1e-6 * np.abs(bias.array)
        for tier in tiers():
            check(got[tier], want, bound, f"seed {seed}, {tier}:")


@seeds
def test_glu(part):
    for seed, rng in draws(part, "glu"):
        form, kind = str(rng.choice(FORMATS + WIDE)), str(rng.choice(["silu", "gelu_tanh"]))
        f, k = 16 * int(rng.integers(1, 9)), size(rng, 300, 32, 96, 128)
        rows = size(rng, 40, 6, 12)
        weight, magnitude = packed(form, values("normal", 2 * f, k, seed))
        x = values(str(rng.choice(["normal", "outliers", "zeros", "tiny"])), rows, k, seed)
        got, want = run_all(
            tiers(), lambda b, v, f=f, kind=kind: b.glu(v, "w", f, kind), x, {"w": weight}
        )
        halves = linear_bound(form, x, magnitude).reshape(rows, -1, 2, 16)
        both = (x @ weight.dense().T).reshape(rows, -1, 2, 16)
        error = np.abs(both).max(axis=2) * halves.sum(axis=2) * 1.2 + halves.prod(axis=2)
        bound = error.reshape(rows, f) * 1.1 + 4e-6 * np.abs(want) + 1e-6
        for tier in tiers():
            check(got[tier], want, bound, f"seed {seed}, {tier}:")


@seeds
def test_embed_norm_add_logits(part):
    for seed, rng in draws(part, "rows"):
        form = str(rng.choice(FORMATS + WIDE))
        width, vocab = size(rng, 300, 32, 64, 128, 160), size(rng, 150, 32, 64)
        rows = size(rng, 30, 6, 12)
        table, magnitude = packed(form, values("normal", vocab, width, seed))
        b = ProgramBuilder()
        b.begin_layer()
        x = b.embed("table", width, float(rng.uniform(0.1, 30)))
        normed = b.rms_norm(x, "n", 1e-5)
        both = b.add(x, normed)
        b.logits(both, "n", 1e-6, "table", vocab)
        norm = DenseWeight(values("normal", 1, width, seed)[0])
        weights, step = {"table": table, "n": norm}, Step(rng.integers(0, vocab, rows, np.int32))
        reference = ReferenceModel(b.build(), weights, [], "f32")
        reference.forward(step)
        threads = int(rng.integers(1, 4))
        some = np.sort(rng.choice(rows, size=int(rng.integers(1, rows + 1)), replace=False))
        some = some.astype(np.int32)
        want_logits, hidden = reference.logits(some), reference.value(both.id)[some]
        hidden = hidden / np.sqrt((hidden**2).mean(1, keepdims=True) + 1e-6) * norm.array
        slack = {"f32": 3e-6, "bf16": 2**-9}.get(form, 0.02)
        bound = linear_bound(form, hidden, magnitude)
        bound += slack * np.abs(hidden).max(1, keepdims=True) * magnitude.max()
        for tier in tiers():
            options = NativeOptions(tier, threads, rows, 1, keep_all=True)
            native = NativeModel(b.build(), weights, [], "f32", options)
            native.forward(step)
            for value, tolerance in ((x, 3e-7), (normed, 3e-6), (both, 3e-6)):
                want = reference.value(value.id)
                atol = tolerance * np.abs(want).max()
                np.testing.assert_allclose(native.value(value.id), want, rtol=tolerance, atol=atol)
            check(native.logits(some), want_logits, bound, f"seed {seed}, {tier}:")


def plan(rng: np.random.Generator, lengths: list[int]) -> list[tuple[int, int, int]]:
    """A step: chunks of some sequences behind what they have."""
    chunks = []
    for s in np.flatnonzero(rng.random(len(lengths)) < 0.7).tolist():
        grow = min(int(rng.choice([1, 1, 1, 5, 32, 70])), 1590 - lengths[s])
        chunks.append((s, lengths[s], lengths[s] + grow))
        lengths[s] += grow
    return chunks


def coarse(kv_dtype: str, tier: str) -> float:
    """How far from the reference, as a part of the largest value."""
    eight_bits = 2**-5 if tier.startswith("avx512") else 2**-7
    return {"f32": 2e-5, "bf16": 2**-7, "int8": eight_bits}[kv_dtype]


@seeds
def test_attention(part):
    """Random heads, windows and steps, with a prefix that sequences share or not; every tier
    against one run of the reference, which takes most of the time."""
    for seed, rng in draws(part, "attention"):
        kv_heads, group = int(rng.integers(1, 4)), int(rng.integers(1, 11))
        dim = int(rng.choice([32, 64, 96, 128, 256]))
        window = int(rng.choice([0, 0, 1, 33, 600])) or None
        case = Case((kv_heads * group, kv_heads, dim), window, norms=bool(rng.random() < 0.5))
        kv_dtype = str(rng.choice(["f32", "bf16", "int8"]))
        depth = int(rng.choice([0, 0, 0, 0, 1, 1, 2, 5, 16, 20]))
        lengths = [32 * depth if s < 4 else 0 for s in range(5)]
        steps = [[(0, 0, 32 * depth)]] if depth else []
        steps += [chunks for _ in range(3) if (chunks := plan(rng, lengths))]
        most = max((sum(b - a for _, a, b in chunks) for chunks in steps), default=1)
        sessions = {t: Session(case, kv_dtype, t, int(rng.integers(1, 4)), most) for t in tiers()}
        reference = Session(case, kv_dtype, None)
        for session in (*sessions.values(), reference):
            session.tables[0][1:4, :depth] = session.tables[0][0, :depth]
            session.tokens[1:4, : 32 * depth] = session.tokens[0, : 32 * depth]
        for chunks in steps:
            wants = reference.step(*chunks)
            for tier, session in sessions.items():
                for got, want in zip(session.step(*chunks), wants, strict=True):
                    worst = float(np.abs(got - want).max()) / np.abs(want).max()
                    assert worst <= coarse(kv_dtype, tier), f"seed {seed}, {tier}: {worst:.2e}"


def test_packing_is_its_own_inverse():
    for seed, rng in draws(0, "packing"):
        n, k = size(rng, 100, 32, 64), size(rng, 300, 32, 128)
        group = int(rng.choice([32, 64, 128]))
        dense = values("normal", n, k, seed)
        codes, scale = packing.quantise_w8(dense, group)
        weight = packing.PackedWeight("w8", n, k, packing.pack_w8(codes, scale, group), group=group)
        exact = codes.astype(np.float32) * np.repeat(scale, group, axis=1)[:, : codes.shape[1]]
        assert np.array_equal(weight.dense(), exact[:, :k])
