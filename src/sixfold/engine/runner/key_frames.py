"""How keys are framed before a cache of 8 bits rounds them: found on the bundled text.

A few channels of keys are far larger than the rest, and queries are small there. Rounding changes
a score by about |q| |k| / 127; with q's channels multiplied by s and k's divided by it, the least
of |q s| |k / s| is at s^2 = |k_c| / |q_c| (Cauchy-Schwarz), where every channel counts as much as
its share of the score. What all keys have in common, their mean, goes first: it adds the same to
all scores of a query, which softmax does not see. Found once per model and dtype, then read from
a file beside the packed weights. Not here: the rotation that follows (reference_attention.py).
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sixfold.engine.kernels.program import Attention, Program
from sixfold.engine.kernels.reference import ReferenceModel
from sixfold.engine.kernels.reference_attention import KeyFrames
from sixfold.engine.models.weights import Weights
from sixfold.engine.runner.calibration import Source, text_step
from sixfold.engine.runner.kept_file import keep

FLOOR = 0.01
"""Of the largest channel's size: smaller ones count as this much, so that no factor is endless."""
SKIPPED = 8
"""First tokens, whose keys are not like others: the first one is where attention goes to rest."""
VERSION = 1

Float32 = NDArray[np.float32]


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: a layer's frames as little-endian float32 [3, KH, D]."""

    version: int
    layers: dict[int, bytes]


def key_frames(
    source: Source, program: Program, weights: Weights, encode: Callable[[str], list[int]]
) -> KeyFrames:
    """Of every layer, from the file or found now. The file is written if it can be."""
    path = source.path_of("key-frames")
    found = _read(path, program)
    if found is None:
        found = observe(program, weights, encode)
        kept = {layer: frames.astype("<f4").tobytes() for layer, frames in found.items()}
        keep(path, msgspec.json.encode(Kept(VERSION, kept)))
    return found


def observe(
    program: Program, weights: Weights, encode: Callable[[str], list[int]]
) -> dict[int, Float32]:
    """Find them."""
    step, counts = text_step(program, encode)
    try:
        from sixfold.engine.kernels import cpu, ops
    except ImportError:
        seen = ReferenceModel(program, weights, counts).queries_and_keys(step)
        return _frames(seen)
    tokens = len(step.token_ids)
    options = ops.NativeOptions(ops.tiers()[-1], cpu.allowed_threads(), tokens, tokens)
    return _frames(
        ops.NativeModel(program, weights, counts, "bf16", options).queries_and_keys(step)
    )


def _frames(seen: Iterable[tuple[Attention, Float32, Float32]]) -> dict[int, Float32]:
    return {op.layer: frames_of(q[SKIPPED:], k[SKIPPED:]) for op, q, k in seen}


def frames_of(q: Float32, k: Float32) -> Float32:
    """[3, KH, D] (KeyFrames) from queries [T, H, D] and keys [T, KH, D]; 1, 1, 0 where T is 0."""
    tokens, heads, dim = k.shape
    if not tokens:
        return np.stack(
            [np.ones((heads, dim)), np.ones((heads, dim)), np.zeros((heads, dim))]
        ).astype(np.float32)
    mean = k.mean(axis=0, dtype=np.float64)
    of_keys = _sizes(k - mean)
    of_queries = _sizes(q.reshape(tokens, heads, -1, dim).swapaxes(1, 2).reshape(-1, heads, dim))
    factor = np.sqrt(of_keys / of_queries)
    return np.stack([factor, 1 / factor, mean / factor]).astype(np.float32)


def _sizes(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Root mean squares [KH, D] of x [T, KH, D], none below FLOOR of the head's largest."""
    sizes = np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=0))
    peak = sizes.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = np.maximum(sizes, np.where(peak > 0, FLOOR * peak, 1.0))
    return found


def digest(frames: KeyFrames) -> str:
    """Differs where they do: blocks that were written with others are of no use."""
    if not frames:
        return ""
    whole = b"".join(frames[layer].astype("<f4").tobytes() for layer in sorted(frames))
    return hashlib.blake2b(whole, digest_size=8).hexdigest()


def _read(path: Path, program: Program) -> dict[int, Float32] | None:
    """The file's frames; None where there is none, or it does not fit this model."""
    try:
        read = msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None
    shapes = {
        op.layer: (3, op.num_kv_heads, op.head_dim)
        for op in program.ops if isinstance(op, Attention)
    }  # fmt: skip
    sizes: Mapping[int, int] = {layer: 4 * int(np.prod(shape)) for layer, shape in shapes.items()}
    if read.version != VERSION or {n: len(data) for n, data in read.layers.items()} != sizes:
        return None
    found = {n: np.frombuffer(data, "<f4").reshape(shapes[n]) for n, data in read.layers.items()}
    return found if all(np.isfinite(some).all() for some in found.values()) else None
