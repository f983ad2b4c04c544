"""Writes small GGUF files for tests: as plain as the format, and as wrong as a test asks."""

import struct
from typing import Any, NamedTuple

import numpy as np

from sixfold.engine.models.dequant import BLOCKS

TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q4_k": 12,
    "q5_k": 13, "q6_k": 14, "bf16": 30, "mxfp4": 39,
}  # fmt: skip


class Tensor(NamedTuple):
    """`shape` has rows first; `data` are the stored bytes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: bytes


def f32_tensor(name: str, values: np.ndarray) -> Tensor:
    return Tensor(name, "f32", values.shape, np.ascontiguousarray(values, "<f4").tobytes())


def random_tensor(name: str, kind: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random codes with moderate scales: every value is finite."""
    rng = np.random.default_rng([seed, *name.encode()])
    block, size = BLOCKS[kind]
    blocks = int(np.prod(shape)) // block
    data = rng.integers(0, 256, (blocks, size), np.uint8)
    if kind in ("f32", "f16", "bf16"):
        values = rng.standard_normal(blocks).astype("<f4")
        if kind == "bf16":
            words = (values.view("<u4") >> 16).astype("<u2")
        else:
            words = values.astype("<f2" if kind == "f16" else "<f4")
        return Tensor(name, kind, shape, words.tobytes())
    halves = {"q6_k": [208], "q4_1": [0, 2], "q5_1": [0, 2], "q4_k": [0, 2], "q5_k": [0, 2]}
    for at in halves.get(kind, [0]):
        scale = rng.uniform(-0.1, 0.1, blocks).astype("<f2")
        data[:, at : at + 2] = scale.view(np.uint8).reshape(blocks, 2)
    return Tensor(name, kind, shape, data.tobytes())


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def value(v: Any) -> bytes:
    """Type and bytes of a metadata value."""
    if isinstance(v, bool):
        return struct.pack("<IB", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + string(v)
    if isinstance(v, bytes):  # already encoded, type and all
        return v
    if all(isinstance(x, str) for x in v):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(string, v))
    if all(isinstance(x, bool) for x in v):
        return struct.pack("<IIQ", 9, 7, len(v)) + bytes(v)
    kind, letter = (6, "f") if any(isinstance(x, float) for x in v) else (5, "i")
    return struct.pack("<IIQ", 9, kind, len(v)) + struct.pack(f"<{len(v)}{letter}", *v)


def gguf_bytes(
    metadata: dict[str, Any] | list[tuple[str, Any]],
    tensors: list[Tensor],
    version: int = 3,
    alignment: int = 32,
    offsets: dict[str, int] | None = None,
) -> bytes:
    """A GGUF file. `offsets` overrides where the header says that a tensor lies."""
    pairs = list(metadata.items()) if isinstance(metadata, dict) else metadata
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, v in pairs:
        out += string(key) + value(v)
    data = b""
    for t in tensors:
        data += bytes(-len(data) % alignment)
        at = (offsets or {}).get(t.name, len(data))
        dims = struct.pack(f"<{len(t.shape)}Q", *reversed(t.shape))
        out += string(t.name) + struct.pack("<I", len(t.shape)) + dims
        out += struct.pack("<IQ", TYPES[t.kind], at)
        data += t.data
    return out + bytes(-len(out) % alignment) + data
