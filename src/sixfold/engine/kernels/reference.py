"""The reference executor: runs a Program in NumPy, one small function per op. The oracle.

Slow and obvious by design: no packing, fusion, threads or in-place tricks. Every native kernel is
compared with it (tests/engine/kernels/test_ops.py), and `executor="reference"` runs an engine on
it where no native module exists. Attention lives in `reference_attention.py`.

What a linear layer means depends on its weight's format:
f32    plain float32.
bf16   activations are rounded to bf16, products summed in float32.
w8 w4  activations are quantised to int8 per row in blocks of 128, which is the same in real
       arithmetic as multiplying the de-quantised activations (see `quantise_rows`); a weight's
       outlier columns are multiplied as in bf16 instead.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sixfold.engine.kernels import reference_attention as ra
from sixfold.engine.kernels.packing import KVDtype, PackedWeight
from sixfold.engine.kernels.program import (
    Activation,
    Add,
    Attention,
    Embed,
    Glu,
    Linear,
    Logits,
    Op,
    Program,
    RmsNorm,
    Value,
)

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Format = Literal["f32", "bf16", "w8", "w4"]

GLU_RUN = 16
"""Rows of gate, then rows of up, that alternate in a Glu weight."""

BLOCK = 128
"""Activations per scale."""

SILENT = 1e-30
"""Rows of activations whose peak is no larger are quantised to zeros (127 / peak overflows)."""

FLOOR = 1e-6
"""Of a row's peak: no block's scale is finer, so that the ratio of two scales is finite."""


class Weight(Protocol):
    """A [N, K] matrix, or a vector as [N, 1] or [N], in the form the kernels hold it in."""

    @property
    def format(self) -> str:
        """f32, bf16, w8 or w4."""
        ...

    def dense(self) -> Float32:
        """float32, exactly what the packed codes stand for."""
        ...


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """A weight that is kept as it is: for norms, biases and tests."""

    array: Float32
    format: Format = "f32"

    def dense(self) -> Float32:
        """The array itself."""
        return self.array


def embed(token_ids: Int32, table: Float32, scale: float) -> Float32:
    """table [V, E], token_ids [T] -> [T, E]."""
    return table[token_ids] * np.float32(scale)


def quantise_rows(x: Float32) -> Float32:
    """Round x [T, K] to int8 steps per row and block of 128 along K, and back: [T, K].

    peak = max|x| of the block, but not below 1e-6 of the row's; scale = peak / 127;
    code = rint(x * (127 / peak)), ties to even; value = code * scale. K is padded with zeros to
    whole blocks, which changes no block's peak.
    """
    rows, k = x.shape
    padded = np.zeros((rows, -(-k // BLOCK) * BLOCK), np.float32)
    padded[:, :k] = x
    blocks = padded.reshape(rows, -1, BLOCK)
    top = np.abs(padded).max(axis=1)[:, None, None]
    floor = np.maximum(top * np.float32(FLOOR), np.float32(SILENT))
    peak = np.maximum(np.abs(blocks).max(axis=-1, keepdims=True), floor)
    codes = np.where(top > SILENT, np.rint(blocks * (np.float32(127) / peak)), np.float32(0))
    steps: Float32 = (codes * (peak / np.float32(127))).astype(np.float32)
    return steps.reshape(rows, -1)[:, :k]


def linear(
    x: Float32,
    weight: Float32,
    form: str,
    bias: Float32 | None = None,
    outliers: Sequence[int] | Int32 = (),
) -> Float32:
    """x [T, K], weight [N, K] (de-quantised) of format `form`, bias [N] -> [T, N].

    `outliers`: columns of w8 and w4 weights that are multiplied in bf16.
    """
    beside: Float32 | None = None
    if form == "bf16":
        x = ra.round_bf16(x)
    elif form in ("w8", "w4"):
        if len(outliers):
            kept = np.asarray(outliers)
            beside = ra.round_bf16(x[:, kept]) @ ra.round_bf16(weight[:, kept]).T
            x = x.copy()
            x[:, kept] = 0
        x = quantise_rows(x)
    else:
        assert form == "f32", f"unknown weight format {form}"
    out: Float32 = np.matmul(x, weight.T)
    if beside is not None:
        out += beside
    return out if bias is None else out + bias


def activate(x: Float32, activation: Activation) -> Float32:
    """silu: x / (1 + e^-x). gelu_tanh: the tanh form of GELU (Hendrycks and Gimpel, 2016)."""
    wide = x.astype(np.float64)
    if activation == "silu":
        # exp of a huge number is inf and x / inf is 0, as it should be.
        with np.errstate(over="ignore"):
            out: Float32 = (wide / (1 + np.exp(-wide))).astype(np.float32)
            return out
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    out = (0.5 * wide * (1 + np.tanh(inner))).astype(np.float32)
    return out


def glu(
    x: Float32,
    weight: Float32,
    form: str,
    activation: Activation,
    outliers: Sequence[int] | Int32 = (),
) -> Float32:
    """x [T, K], weight [2F, K] in alternating runs of 16 gate and 16 up rows -> [T, F]."""
    both = linear(x, weight, form, None, outliers).reshape(len(x), -1, 2, GLU_RUN)
    gate, up = both[:, :, 0].reshape(len(x), -1), both[:, :, 1].reshape(len(x), -1)
    out: Float32 = activate(gate, activation) * up
    return out


def interleave_glu(gate: Float32, up: Float32) -> Float32:
    """Join gate and up, [F, K] each, into the [2F, K] that `glu` takes. F is a multiple of 16."""
    assert gate.shape == up.shape and len(gate) % GLU_RUN == 0
    runs = [m.reshape(-1, 1, GLU_RUN, m.shape[1]) for m in (gate, up)]
    out: Float32 = np.concatenate(runs, axis=1).reshape(2 * len(gate), gate.shape[1])
    return out


class ReferenceModel:
    """A program with its weights and KV cache: the interface of `ops.NativeModel`.

    `num_kv_blocks` has one count per KV group, the null block 0 included. With `kv_dtype` f32 the
    cache holds float32 and q, k, v are not rounded.
    """

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Weight],
        num_kv_blocks: Sequence[int],
        kv_dtype: KVDtype = "bf16",
        key_frames: ra.KeyFrames | None = None,
    ) -> None:
        assert len(num_kv_blocks) == len(program.kv_groups)
        self._program = program
        self._weights = weights
        self._dense: dict[str, Float32] = {}
        self._kv_dtype = kv_dtype
        self._key_frames = key_frames or {}
        self._values: dict[int, Float32] = {}
        self._caches = {
            (op.kv_group, op.cache_layer): ra.LayerCache.empty(
                num_kv_blocks[op.kv_group], op.num_kv_heads, op.head_dim
            )
            for op in program.ops
            if isinstance(op, Attention)
        }

    def forward(self, step: ra.Step) -> None:
        """Run all ops but Logits over the step's T tokens. Keeps every value, writes the cache."""
        self._values = {}
        for op in self._program.ops:
            if not isinstance(op, Logits):
                self._values[op.out.id] = self._run(op, step)

    def logits(self, rows: Int32) -> Float32:
        """[S, V] logits of the given rows of the last forward's T tokens."""
        op = self._program.ops[-1]
        assert isinstance(op, Logits), "the program does not end with logits"
        hidden = ra.rms_norm(self._of(op.x)[rows], self._vector(op.norm), op.eps)
        return self._linear(hidden, op.weight)

    def value(self, value_id: int) -> Float32:
        """[T, width]: any value of the program, as the last forward computed it."""
        return self._values[value_id]

    def queries_and_keys(self, step: ra.Step) -> Iterator[tuple[Attention, Float32, Float32]]:
        """Run all ops; of each attention the queries [T, H, D] and keys [T, KH, D]."""
        self.forward(step)
        for op in self._program.ops:
            if isinstance(op, Attention):
                yield op, *self._placed(op, step)[:2]

    def _run(self, op: Op, step: ra.Step) -> Float32:
        match op:
            case Embed():
                return embed(step.token_ids, self._matrix(op.table), op.scale)
            case RmsNorm():
                return ra.rms_norm(self._of(op.x), self._vector(op.weight), op.eps)
            case Linear():
                bias = None if op.bias is None else self._vector(op.bias)
                return self._linear(self._of(op.x), op.weight, bias)
            case Glu():
                matrix, form = self._matrix(op.weight), self._format(op.weight)
                return glu(self._of(op.x), matrix, form, op.activation, self._outliers(op.weight))
            case Add():
                return self._of(op.x) + self._of(op.y)
            case Attention():
                return self._attention(op, step)
            case Logits():
                raise AssertionError("logits are computed on demand")

    def _attention(self, op: Attention, step: ra.Step) -> Float32:
        frames = self._key_frames.get(op.layer)
        q, k, v = ra.rounded(*self._placed(op, step), self._kv_dtype, frames)
        return ra.attention(op, q, k, v, self._caches[op.kv_group, op.cache_layer], step)

    def _placed(self, op: Attention, step: ra.Step) -> tuple[Float32, Float32, Float32]:
        norms = None
        if op.q_norm is not None and op.k_norm is not None:
            norms = (self._vector(op.q_norm), self._vector(op.k_norm))
        return ra.placed(op, self._of(op.qkv), norms, step.positions)

    def _linear(self, x: Float32, weight: str, bias: Float32 | None = None) -> Float32:
        form, outliers = self._format(weight), self._outliers(weight)
        return linear(x, self._matrix(weight), form, bias, outliers)

    def _outliers(self, name: str) -> Int32:
        weight = self._weights[name]
        return weight.outliers if isinstance(weight, PackedWeight) else np.zeros(0, np.int32)

    def _of(self, value: Value) -> Float32:
        return self._values[value.id]

    def _matrix(self, name: str) -> Float32:
        if name not in self._dense:
            self._dense[name] = np.ascontiguousarray(self._weights[name].dense(), np.float32)
        return self._dense[name]

    def _vector(self, name: str) -> Float32:
        return self._matrix(name).reshape(-1)

    def _format(self, name: str) -> str:
        return self._weights[name].format
