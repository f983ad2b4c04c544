"""Attention of the reference executor: rotation, the paged cache, and softmax(q k^T) v.

No tiles, no online softmax, no fusion: what the native kernels must agree with. With a bf16
cache k and v are rounded when written and q when used; softmax weights stay float32 (the native
bf16 tier rounds them too: tests allow 2^-8 of the largest |v| for that). With an int8 cache k and v
are rounded per token and head, q is not (the AVX-512 tiers round q and the weights to 8 bits too);
q and k are framed and spread before (KeyFrames).
Shapes: n tokens of one request, L keys, H query heads, KH KV heads, D head size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.kernels.packing import KVDtype
from sixfold.engine.kernels.program import Attention
from sixfold.engine.kernels.rope import cos_sin

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
KeyFrames = Mapping[int, Float32]
"""Per layer, for caches of 8 bits: float32 [3, KH, D], by what the queries of a KV head are
multiplied, by what its keys are, and what is then taken off these. Products of the first two are 1,
and what is taken off adds the same to all scores of a query: attention stays, rounding errors
shrink (runner/key_frames.py finds them)."""


class Step(Protocol):
    """What a forward pass is asked: T tokens of R requests (see engine/runner/step_input.py)."""

    @property
    def token_ids(self) -> Int32:
        """[T]."""
        ...

    @property
    def positions(self) -> Int32:
        """[T], ascending within a request."""
        ...

    @property
    def query_start_loc(self) -> Int32:
        """[R + 1]: request r owns rows [start[r], start[r + 1])."""
        ...

    @property
    def slots(self) -> Int32:
        """[R]: each request's row of the block tables."""
        ...

    @property
    def block_tables(self) -> list[Int32]:
        """One [max_num_seqs, max_blocks] per KV group; block 0 means none."""
        ...


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer: float32 [blocks, BLOCK_SIZE, KH, D] each."""

    keys: Float32
    values: Float32

    @classmethod
    def empty(cls, num_blocks: int, num_kv_heads: int, head_dim: int) -> "LayerCache":
        """All NaN, so that a read of what nobody wrote shows."""
        shape = (num_blocks, BLOCK_SIZE, num_kv_heads, head_dim)
        return cls(np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32))


def round_bf16(x: Float32) -> Float32:
    """Nearest bfloat16 (ties to even), as float32 of the same shape. NaN stays NaN."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, rounded.view(np.float32))


def round_int8(x: Float32) -> Float32:
    """Nearest 8-bit code times its unit, max |x| / 127 over the last axis."""
    peak = np.abs(x).max(axis=-1, keepdims=True)
    inverse = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 1e-30)
    out: Float32 = (np.rint(x * inverse) * (peak / np.float32(127))).astype(np.float32)
    return out


def spread(x: Float32) -> Float32:
    """x [..., D] times the orthogonal Hadamard matrix of D, or of its blocks of a power of two.

    Queries and keys are both turned so before keys are rounded to 8 bits: their products stay, and
    what a few channels have in excess goes to all (QuaRot, Ashkboos et al., 2024).
    """
    dim = x.shape[-1]
    width, half = dim & -dim, 1
    while half < width:
        pairs = x.reshape(*x.shape[:-1], -1, 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([first + second, first - second], axis=-2).reshape(*x.shape[:-1], dim)
        half *= 2
    out: Float32 = x * (np.float32(1) / np.sqrt(np.float32(width)))
    return out


def framed(q: Float32, k: Float32, frames: Float32 | None) -> tuple[Float32, Float32]:
    """q [T, H, D] and k [T, KH, D] as caches of 8 bits take them: see KeyFrames and `spread`."""
    if frames is not None:
        q = q * np.repeat(frames[0], q.shape[1] // k.shape[1], axis=0)
        k = k * frames[1] - frames[2]
    return spread(q), spread(k)


def rms_norm(x: Float32, weight: Float32, eps: float) -> Float32:
    """Normalise over the last axis: x [..., width], weight [width]."""
    mean_square = np.mean(np.square(x.astype(np.float64)), axis=-1, keepdims=True)
    out: Float32 = (x / np.sqrt(mean_square + eps) * weight).astype(np.float32)
    return out


def rotate(x: Float32, cos: Float32, sin: Float32) -> Float32:
    """Turn the pairs (d, d + D/2) of x [T, heads, D] by each token's angles [T, D/2]."""
    first, second = np.split(x, 2, axis=-1)
    c, s = cos[:, None, :], sin[:, None, :]
    return np.concatenate([first * c - second * s, second * c + first * s], axis=-1)


def softmax(scores: Float32) -> Float32:
    """Over the last axis; -inf is a masked key, and every row has one that is not."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out: Float32 = weights / weights.sum(axis=-1, keepdims=True)
    return out


def attend(q: Float32, k: Float32, v: Float32, scale: float, visible: NDArray[np.bool_]) -> Float32:
    """softmax(scale q k^T) v for one request.

    q [n, H, D], k and v [L, KH, D], visible [n, L] -> [n, H, D]. Heads h of one KV head are
    consecutive (grouped-query attention).
    """
    n, heads, dim = q.shape
    groups = k.shape[1]
    grouped = q.reshape(n, groups, heads // groups, dim)
    scores = np.einsum("nghd,lgd->nghl", grouped, k, optimize=True) * np.float32(scale)
    scores = np.where(visible[:, None, None, :], scores, -np.inf).astype(np.float32, order="C")
    out: Float32 = np.einsum("nghl,lgd->nghd", softmax(scores), v, optimize=True)
    return out.reshape(n, heads, dim)


def split_heads(op: Attention, qkv: Float32) -> tuple[Float32, Float32, Float32]:
    """Cut qkv [T, (H + 2 KH) D] into q [T, H, D], k and v [T, KH, D]."""
    rows = qkv.reshape(len(qkv), op.num_heads + 2 * op.num_kv_heads, op.head_dim)
    edges = (op.num_heads, op.num_heads + op.num_kv_heads)
    q, k, v = np.split(rows, edges, axis=1)
    return q, k, v


def keys_seen(op: Attention, positions: Int32) -> tuple[int, NDArray[np.bool_]]:
    """First key position that any of a request's tokens sees, and the mask from there.

    positions [n] -> (start, visible [n, L]) with L = last position + 1 - start.
    """
    start = 0 if op.window is None else max(0, int(positions[0]) - op.window + 1)
    keys = np.arange(start, int(positions[-1]) + 1)
    visible = keys[None, :] <= positions[:, None]
    if op.window is not None:
        visible &= keys[None, :] > positions[:, None] - op.window
    return start, visible


def write_cache(cache: LayerCache, table: Int32, positions: Int32, k: Float32, v: Float32) -> None:
    """Store k and v [n, KH, D] at the positions [n] of the request with block table `table`."""
    blocks = table[positions // BLOCK_SIZE]
    assert np.all(blocks > 0), "a token's block is missing from its block table"
    cache.keys[blocks, positions % BLOCK_SIZE] = k
    cache.values[blocks, positions % BLOCK_SIZE] = v


def read_cache(cache: LayerCache, table: Int32, start: int, stop: int) -> tuple[Float32, Float32]:
    """Keys and values [stop - start, KH, D] of positions start..stop-1."""
    positions = np.arange(start, stop)
    blocks = table[positions // BLOCK_SIZE]
    assert np.all(blocks > 0), "attention reads a block that is not in the block table"
    return cache.keys[blocks, positions % BLOCK_SIZE], cache.values[blocks, positions % BLOCK_SIZE]


def placed(
    op: Attention, qkv: Float32, norms: tuple[Float32, Float32] | None, positions: Int32
) -> tuple[Float32, Float32, Float32]:
    """Queries, keys and values of qkv [T, (H + 2 KH) D], normalised and turned to their positions.

    `norms` is the per-head norm weights of q and k ([D] each), or None.
    """
    q, k, v = split_heads(op, qkv)
    if norms is not None:
        q, k = rms_norm(q, norms[0], op.norm_eps), rms_norm(k, norms[1], op.norm_eps)
    cos, sin = cos_sin(op.rope, op.head_dim, positions)
    return rotate(q, cos, sin), rotate(k, cos, sin), v


def rounded(
    q: Float32, k: Float32, v: Float32, kv_dtype: KVDtype, frames: Float32 | None = None
) -> tuple[Float32, Float32, Float32]:
    """The three as a cache of that type has them; `frames` of the layer (KeyFrames), or None."""
    if kv_dtype == "bf16":
        return round_bf16(q), round_bf16(k), round_bf16(v)
    if kv_dtype == "int8":
        q, k = framed(q, k, frames)
        return q, round_int8(k), round_int8(v)
    return q, k, v


def attention(
    op: Attention, q: Float32, k: Float32, v: Float32, cache: LayerCache, step: Step
) -> Float32:
    """q [T, H, D], k and v [T, KH, D] -> [T, H D], writing the step's k and v to the cache."""
    out = np.empty_like(q)
    # All writes come first: a request may read blocks that another one fills in this very step.
    for table, rows in _requests(op, step):
        write_cache(cache, table, step.positions[rows], k[rows], v[rows])
    for table, rows in _requests(op, step):
        start, visible = keys_seen(op, step.positions[rows])
        keys, values = read_cache(cache, table, start, start + visible.shape[1])
        out[rows] = attend(q[rows], keys, values, op.scale, visible)
    return out.reshape(len(q), op.num_heads * op.head_dim)


def _requests(op: Attention, step: Step) -> list[tuple[Int32, slice]]:
    """Each request's block table row in the op's KV group, and its rows of the step."""
    edges = step.query_start_loc
    tables = step.block_tables[op.kv_group]
    return [
        (tables[slot], slice(int(edges[r]), int(edges[r + 1])))
        for r, slot in enumerate(step.slots)
        if edges[r + 1] > edges[r]
    ]
