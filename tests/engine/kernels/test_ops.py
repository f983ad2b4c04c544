"""One table: every op of the native core against the reference, per tier, format and shape.

Bounds are of the arithmetic, not of what happens to pass: `scale` below is sum |x| |w| (what
rounding errors are proportional to), and integer dot products may differ only where an
activation lies so near a rounding tie that a fused multiply-add decides it.
"""

from dataclasses import replace

import numpy as np
import pytest

from engine.kernels.op_table import (
    FORMATS,
    WIDE,
    Step,
    check,
    linear_bound,
    packed,
    run,
    values,
)
from sixfold.engine.kernels import packing
from sixfold.engine.kernels.ops import NativeModel, NativeOptions, tiers
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.kernels.reference import DenseWeight, ReferenceModel

ROWS = (1, 2, 5, 6, 7, 12, 33, 65)
SHAPES = [
    (32, 32), (33, 64), (100, 96), (64, 100), (7, 33), (96, 576), (16, 1), (40, 160), (33, 640),
]  # fmt: skip


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("form", FORMATS + WIDE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear(tier, form, shape):
    n, k = shape
    weight, magnitude = packed(form, values("normal", n, k, seed=1))
    bias = DenseWeight(values("normal", 1, n, seed=2)[0])
    for rows in ROWS if shape == (100, 96) else (1, 7):
        for kind in ("normal", "zeros", "outliers", "huge", "tiny"):
            x = values(kind, rows, k)
            got, want = run(
                tier, lambda b, v: b.linear(v, "w", n, "b"), x, {"w": weight, "b": bias}
            )
            check(got, want, linear_bound(form, x, magnitude) + 1e-6 * np.abs(bias.array))


@pytest.mark.parametrize("form", ["w8", "w8_asym", "w4", "w4_asym", *WIDE])
@pytest.mark.parametrize(("n", "k"), [(33, 70), (64, 256)])
def test_columns_of_packed_weights(form, n, k):
    dense = values("normal", n, k, seed=9)
    if form == "w8_asym":
        data = packing.pack_w8_asym(*packing.quantise_w4(dense))
        weight = packing.PackedWeight("w8", n, k, data, asym=True)
    else:
        weight, _ = packed(form, dense)
    for columns in ([0, k - 1], [3, 4, 31, 32, 33, 60], [5, 39]):
        some = np.array(columns, np.int32)
        assert np.array_equal(weight.columns(some), weight.dense()[:, some])


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("form", ["w8", "w4", "w4_asym", "w8_128"])
@pytest.mark.parametrize(("k", "kept"), [(64, [0, 1]), (160, [3, 31, 32, 159]), (640, range(16))])
def test_outlier_columns(tier, form, k, kept):
    """Columns a thousand times larger than the rest, beside which the rest keeps its 8 bits."""
    n, kept = 40, np.array(kept, np.int32)
    weight, magnitude = packed(form, values("normal", n, k, seed=10))
    weight = replace(weight, outliers=kept)
    for rows in (1, 7, 12):
        x = values("normal", rows, k)
        x[:, kept] *= 1000
        got, want = run(tier, lambda b, v: b.linear(v, "w", n), x, {"w": weight})
        rest = x.copy()
        rest[:, kept] = 0
        beside = np.abs(x[:, kept]) @ magnitude[:, kept].T
        check(got, want, linear_bound(form, rest, magnitude) + 1e-6 * beside)
        exact = x @ weight.dense().T
        assert np.abs(got - exact).max() < np.abs(exact).max() * 2**-7


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("form", ["w8", "w4", "w4_asym"])
def test_linear_extreme_codes(tier, form):
    """Codes and activations at the ends of their ranges: nothing may saturate (avx2's traps)."""
    n, k = 32, 128
    rng = np.random.default_rng(0)
    scale, low = np.full((n, k // 32), 0.5, np.float32), np.full((n, k // 32), -4.0, np.float32)
    if form == "w8":
        codes = rng.choice(np.array([-128, -127, 127], np.int8), (n, k))
        codes[0], codes[1] = 127, -128
        weight = packing.PackedWeight("w8", n, k, packing.pack_w8(codes, scale))
    else:
        nibbles = rng.choice(np.array([0, 15], np.uint8), (n, k))
        nibbles[0], nibbles[1] = 15, 0
        data = packing.pack_w4(nibbles, scale, low, form == "w4_asym")
        weight = packing.PackedWeight("w4", n, k, data, form == "w4_asym")
    for x in (np.ones((7, k)), -np.ones((7, k)), rng.choice([-1.0, 1.0], (7, k))):
        x = x.astype(np.float32)
        got, want = run(tier, lambda b, v: b.linear(v, "w", n), x, {"w": weight})
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_glu(tier, form, activation):
    for f, k in ((16, 32), (48, 100)):
        weight, magnitude = packed(form, values("normal", 2 * f, k, seed=3))
        for rows in (1, 6, 13):
            for kind in ("normal", "outliers", "zeros", "tiny"):
                x = values(kind, rows, k)
                got, want = run(
                    tier, lambda b, v, f=f: b.glu(v, "w", f, activation), x, {"w": weight}
                )
                # |d act/dx| <= 1.13, and act is within 1e-6 relative of its formula
                halves = linear_bound(form, x, magnitude).reshape(rows, -1, 2, 16)
                both = (x @ weight.dense().T).reshape(rows, -1, 2, 16)
                error = np.abs(both).max(axis=2) * halves.sum(axis=2) * 1.2 + halves.prod(axis=2)
                check(got, want, error.reshape(rows, f) * 1.1 + 4e-6 * np.abs(want) + 1e-6)


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("form", FORMATS + WIDE)
def test_embed(tier, form):
    for v, width, scale in ((5, 32, 1.0), (70, 96, 25.298), (33, 64, 0.5)):
        weight, _ = packed(form, values("normal", v, width, seed=4))
        b = ProgramBuilder()
        out = b.embed("table", width, scale)
        program = b.build()
        step = Step(np.array([v - 1, 0, 3, 3, v // 2], np.int32))
        native = NativeModel(program, {"table": weight}, [], "f32", NativeOptions(tier, 2, 8, 1))
        reference = ReferenceModel(program, {"table": weight}, [], "f32")
        for model in (native, reference):
            model.forward(step)
        np.testing.assert_allclose(native.value(out.id), reference.value(out.id), rtol=3e-7)


@pytest.mark.parametrize("tier", tiers())
def test_rms_norm(tier):
    for width in (1, 16, 33, 64, 576, 2048):
        weight = DenseWeight(values("normal", 1, width, seed=5)[0])
        for kind in ("normal", "zeros", "outliers", "huge", "tiny"):
            x = values(kind, 5, width)
            got, want = run(tier, lambda b, v: b.rms_norm(v, "n", 1e-5), x, {"n": weight})
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("tier", tiers())
def test_add(tier):
    for width in (1, 33, 576):
        x, y = values("normal", 9, width), values("outliers", 9, width, seed=6)
        other = packing.PackedWeight("f32", *y.shape, packing.pack_f32(y))

        def build(b, v, width=width):
            return b.add(v, b.embed("y", width))

        got, want = run(tier, build, x, {"y": other})
        assert np.array_equal(got, want)


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("form", FORMATS)
def test_logits(tier, form):
    """The fused norm may differ in a last bit, which can move a value across a rounding tie."""
    v, k = 77, 96
    weight, magnitude = packed(form, values("normal", v, k, seed=7))
    norm = DenseWeight(values("normal", 1, k, seed=8)[0])
    for rows in (1, 13, 40):
        x = values("outliers", rows, k)
        got, want = run(tier, lambda b, y: b.logits(y, "n", 1e-6, "w", v), x,
                        {"w": weight, "n": norm})  # fmt: skip
        hidden = x[::2] / np.sqrt((x[::2] ** 2).mean(1, keepdims=True) + 1e-6) * norm.array
        slack = {"f32": 0, "bf16": 2**-9}.get(form, 0.02)
        bound = linear_bound(form, hidden, magnitude)
        check(got, want, bound + slack * np.abs(hidden).max(1, keepdims=True) * magnitude.max())
