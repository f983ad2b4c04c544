"""What the op tables share: weights in every format, activations of every kind, and how far an
op's result may be from the reference's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sixfold.engine.kernels import packing
from sixfold.engine.kernels.ops import NativeModel, NativeOptions
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.kernels.reference import BLOCK, FLOOR, ReferenceModel, quantise_rows
from sixfold.engine.kernels.reference_attention import round_bf16

WIDE = ("w8_64", "w8_128", "w4_64", "w4_128", "w4_asym_128")
"""With that many values of K per scale."""
FORMATS = ("f32", "bf16", "w8", "w4", "w4_asym")


@dataclass
class Step:
    """A step without a KV cache: T tokens of one request."""

    token_ids: np.ndarray
    block_tables: list = field(default_factory=list)

    def __post_init__(self):
        count = len(self.token_ids)
        self.positions = np.arange(count, dtype=np.int32)
        self.query_start_loc = np.array([0, count], np.int32)
        self.slots = np.zeros(1, np.int32)


def packed(form: str, dense: np.ndarray) -> tuple[packing.PackedWeight, np.ndarray]:
    """A weight in a format, and per element the magnitude that its rounding errors scale with."""
    n, k = dense.shape
    if form in ("f32", "bf16"):
        data = {"f32": packing.pack_f32, "bf16": packing.pack_bf16}[form](dense)
        weight = packing.PackedWeight(form, n, k, data)
        return weight, np.abs(weight.dense())
    plain, group, asym = form[:2], group_of(form), "asym" in form
    if plain == "w8":
        codes, scale = packing.quantise_w8(dense, group)
        weight = packing.PackedWeight("w8", n, k, packing.pack_w8(codes, scale, group), group=group)
        return weight, np.abs(dense) + 1e-30
    codes, scale, low = packing.quantise_w4(dense, group)
    if not asym:
        low = -8 * scale
    data = packing.pack_w4(codes, scale, low, asym, group)
    magnitude = np.repeat(15 * scale + np.abs(low), group, axis=1)[:, :k]
    return packing.PackedWeight("w4", n, k, data, asym, group=group), magnitude


def group_of(form: str) -> int:
    last = form.rpartition("_")[2]
    return int(last) if last.isdecimal() else 32


def values(kind: str, rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Activations of one kind."""
    x = np.random.default_rng([rows, width, seed]).normal(0, 1, (rows, width))
    if kind == "zeros":
        x[::2] = 0
        x[:, : width // 2] = 0
    elif kind == "outliers":
        x[:, :: max(width // 3, 1)] *= 300
    elif kind in ("huge", "tiny"):
        x *= {"huge": 1e16, "tiny": 1e-16}[kind]
    return x.astype(np.float32)


def run(tier: str, build: Callable, x: np.ndarray, weights: dict, threads: int = 2) -> tuple:
    """Run `build(builder, value)` on activations x [T, K] in both executors: (got, want)."""
    got, want = run_all((tier,), build, x, weights, threads)
    return got[tier], want


def run_all(
    tiers: Sequence[str], build: Callable, x: np.ndarray, weights: dict, threads: int = 2
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The same on several tiers, against one run of the reference."""
    b = ProgramBuilder()
    b.begin_layer()
    start = b.embed("x", x.shape[1])
    out = build(b, start)
    program = b.build()
    weights = {"x": packing.PackedWeight("f32", *x.shape, packing.pack_f32(x)), **weights}
    step = Step(np.arange(len(x), dtype=np.int32))

    def result(model: NativeModel | ReferenceModel) -> np.ndarray:
        model.forward(step)
        if out is None:
            return model.logits(np.arange(0, len(x), 2, dtype=np.int32))
        return model.value(out.id)

    def native(tier: str) -> NativeModel:
        options = NativeOptions(tier, threads, len(x), 1, keep_all=True)
        return NativeModel(program, weights, [], "f32", options)

    found = {tier: result(native(tier)) for tier in tiers}
    return found, result(ReferenceModel(program, weights, [], "f32"))


def linear_bound(form: str, x: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """How far [T, N] products of x [T, K] and a weight may be from the reference's."""
    if form == "bf16":
        x = round_bf16(x)
    ties = 0.0
    if form.startswith("w"):
        padded = np.zeros((len(x), packing.round_up(x.shape[1], BLOCK)), np.float32)
        padded[:, : x.shape[1]] = x
        step = np.abs(padded.reshape(len(x), -1, BLOCK)).max(axis=2, keepdims=True) / 127
        step = np.maximum(step, np.abs(padded).max(axis=1)[:, None, None] * FLOOR / 127)
        steps = padded.reshape(len(x), -1, BLOCK) / np.where(step > 0, step, 1)
        near = np.abs(np.abs(steps - np.rint(steps)) - 0.5) < 3e-5
        ties = (near * step).reshape(len(x), -1)[:, : x.shape[1]] @ magnitude.T
        x = quantise_rows(x)
    # 2^-24 per operation, sqrt(K) of them adding up, and some slack. Products that a subnormal
    # operand takes part in may be flushed to zero.
    size = np.abs(x).astype(np.float64) @ magnitude.T
    return 3e-7 * np.sqrt(x.shape[1]) * size + ties + 1e-36


def check(got: np.ndarray, want: np.ndarray, bound: np.ndarray, what: str = "") -> None:
    assert got.shape == want.shape and np.all(np.isfinite(got))
    worst = float(np.max(np.abs(got - want) / bound))
    assert worst <= 1, f"{what} {worst:.2f} times the bound"
