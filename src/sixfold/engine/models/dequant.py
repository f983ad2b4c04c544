"""Reads ggml's block formats in NumPy: float32 values, or exact 4-bit and 8-bit codes.

Does not quantise. A quantised value is scale * code + minimum, exactly: every product fits into
float32, so there is one rounding, the sum's, and the values equal ggml's own to the last bit.

Source: block layouts in ggml, src/ggml-common.h; the scalar dequantisers in src/ggml-quants.c.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]

BLOCKS: dict[str, tuple[int, int]] = {
    "f32": (1, 4), "f16": (1, 2), "bf16": (1, 2),
    "q8_0": (32, 34), "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24),
    "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210),
    "i8": (1, 1), "i16": (1, 2), "i32": (1, 4), "i64": (1, 8), "f64": (1, 8),
}  # fmt: skip
"""Per kind: values and bytes of one block."""

READABLE = tuple(kind for kind in BLOCKS if not kind.startswith("i") and kind != "f64")
"""The kinds that `dequantise` takes."""

KINDS_4BIT = ("q4_0", "q4_1", "q4_k")
EXACT_W8 = ("q8_0", "q5_0", "q4_0")
"""The kinds whose codes fit 8 bits around zero as they are: `codes_w8`."""
KINDS_8BIT = ("q8_0", "q5_0", "q5_1", "q5_k", "q6_k")


@dataclass(frozen=True, slots=True)
class Codes:
    """Rows of a quantised tensor: value = scale * code + minimum, per `group` columns.

    `codes` [n, K] (uint8; int8 for q8_0), `scale` and `minimum` float32 [n, K / group].
    """

    codes: NDArray[np.uint8] | NDArray[np.int8]
    scale: Float32
    minimum: Float32 | None
    group: int


def row_bytes(kind: str, width: int) -> int:
    """Bytes of a row of `width` values."""
    block, size = BLOCKS[kind]
    assert width % block == 0, f"{width} is no multiple of {kind}'s block"
    return width // block * size


def dequantise(kind: str, raw: Bytes) -> Float32:
    """Raw rows uint8 [n, bytes] of one of READABLE -> float32 [n, K]."""
    if kind == "f32":
        return raw.view("<f4").astype(np.float32, copy=False)
    if kind == "f16":
        return raw.view("<f2").astype(np.float32)
    if kind == "bf16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    parts = unpack_codes(kind, raw)
    n, width = parts.codes.shape
    out = parts.codes.reshape(n, -1, parts.group).astype(np.float32)
    # Scales of a damaged file may be infinite or NaN; whoever asked checks the result.
    with np.errstate(invalid="ignore", over="ignore"):
        out *= parts.scale[:, :, None]
        if parts.minimum is not None:
            out += parts.minimum[:, :, None]
    return out.reshape(n, width)


def unpack_codes(kind: str, raw: Bytes) -> Codes:
    """Raw rows uint8 [n, bytes] of a quantised kind -> its codes and scales, exactly."""
    n = len(raw)
    blocks = raw.reshape(-1, BLOCKS[kind][1])
    with np.errstate(invalid="ignore", over="ignore"):
        codes, scale, minimum = _READERS[kind](blocks)
    group = BLOCKS[kind][0] // scale.shape[1]
    return Codes(
        codes.reshape(n, -1),
        scale.reshape(n, -1),
        None if minimum is None else minimum.reshape(n, -1),
        group,
    )


def codes_w4(kind: str, raw: Bytes) -> tuple[Bytes, Float32, Float32] | None:
    """4-bit codes uint8 [n, K], scale and minimum float32 [n, K/32]; None for other kinds."""
    if kind not in KINDS_4BIT:
        return None
    parts = unpack_codes(kind, raw)
    assert parts.minimum is not None
    return parts.codes.view(np.uint8), parts.scale, parts.minimum


def codes_w8(kind: str, raw: Bytes) -> tuple[NDArray[np.int8], Float32] | None:
    """Signed codes int8 [n, K] and scale float32 [n, K/32] of kinds without a free minimum."""
    centre = {"q8_0": 0, "q5_0": 16, "q4_0": 8}.get(kind)
    if centre is None:
        return None
    parts = unpack_codes(kind, raw)
    return parts.codes.view(np.int8) - np.int8(centre), parts.scale


Parts = tuple[NDArray[np.uint8] | NDArray[np.int8], Float32, Float32 | None]


def _half(blocks: Bytes, at: int) -> Float32:
    """The float16 field at byte `at` of each block: float32 [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """[..., 16 or 32] bytes -> [..., twice]: all low nibbles, then all high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _q8_0(blocks: Bytes) -> Parts:
    return np.ascontiguousarray(blocks[:, 2:]).view(np.int8), _half(blocks, 0), None


def _q4_0(blocks: Bytes) -> Parts:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 2:]), scale, -8 * scale


def _q4_1(blocks: Bytes) -> Parts:
    return _nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    """Bit i of the 32-bit word at byte `at`, as 16 in column i: [blocks, 32]."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << np.uint8(4)


def _q5_0(blocks: Bytes) -> Parts:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2), scale, -16 * scale


def _q5_1(blocks: Bytes) -> Parts:
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return codes, _half(blocks, 0), _half(blocks, 2)


def _k_scales(blocks: Bytes) -> tuple[Float32, Float32]:
    """Scale and minimum of the 8 groups of a Q4_K or Q5_K block: float32 [blocks, 8] each.

    Twelve bytes hold eight 6-bit scales and eight 6-bit minima; groups 4..7 have their upper
    two bits in the upper bits of groups 0..3's bytes.
    """
    low, mid, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = np.concatenate([low & 63, (high & 15) | (low >> 6) << 4], axis=1)
    minimum = np.concatenate([mid & 63, (high >> 4) | (mid >> 6) << 4], axis=1)
    return _half(blocks, 0) * scale, -(_half(blocks, 2) * minimum)


def _q4_k(blocks: Bytes) -> Parts:
    scale, minimum = _k_scales(blocks)
    return _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 256), scale, minimum


def _q5_k(blocks: Bytes) -> Parts:
    scale, minimum = _k_scales(blocks)
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    fifth = (blocks[:, None, 16:48] >> shifts & 1) << 4
    return (low | fifth).reshape(-1, 256), scale, minimum


def _q6_k(blocks: Bytes) -> Parts:
    # Two halves of 128 values: 64 bytes of low nibbles, 32 bytes of upper bit pairs each.
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    upper = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3) << 4
    scale = _half(blocks, 208) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return (low | upper).reshape(-1, 256), scale, -32 * scale


_READERS = {
    "q8_0": _q8_0, "q4_0": _q4_0, "q4_1": _q4_1, "q5_0": _q5_0, "q5_1": _q5_1,
    "q4_k": _q4_k, "q5_k": _q5_k, "q6_k": _q6_k,
}  # fmt: skip
