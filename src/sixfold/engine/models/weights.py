"""Weights in kernel order: packed once per model and dtype, kept in a cache file, loaded whole.

The cache file (format v1) is a header of JSON and then the panels of each matrix and the float32
values of each vector, aligned to 64 bytes. It is keyed by the content of the model's files and
the dtype, written beside its name and renamed, and read straight into huge pages: there is one
copy of the weights in memory, and none of it is NumPy's.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import GROUP_SIZE, ModelConfig
from sixfold.core.errors import ModelError
from sixfold.engine.kernels import packing
from sixfold.engine.kernels.memory import huge_buffer
from sixfold.engine.kernels.packing import Format, PackedWeight
from sixfold.engine.models.checkpoint import Checkpoint, SourceTensor
from sixfold.engine.models.dequant import EXACT_W8

MAGIC = b"SIXFOLDP"
VERSION = 1
ALIGN = 64
ROWS_AT_ONCE = 1024
"""Rows packed per step: bounds the memory that packing takes."""

WIDE_GROUP = 128
"""Values per scale where 8 bits are of our own making: as many as an activation's scale has."""
SMALL_HIDDEN = 1024
"""Hidden size below which dtype=auto keeps activations in bf16."""

Progress = Callable[[int, int], None]


class Entry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One tensor of the cache file. `group`: values along K per scale. `outliers` is unused: those
    columns are found with the whole model (runner/calibration.py)."""

    name: str
    format: str
    shape: tuple[int, ...]
    asym: bool = False
    offset: int = 0
    size: int = 0
    group: int = 32
    outliers: int = 0


class Header(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The cache file's first part. `total` is the size of the data behind it."""

    version: int
    key: str
    total: int
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Vector:
    """A norm weight or a bias, float32."""

    values: NDArray[np.float32]
    format: str = "f32"

    def dense(self) -> NDArray[np.float32]:
        """The values."""
        return self.values


@dataclass(frozen=True, slots=True)
class Part:
    """A matrix to pack: sources stacked (or, for gate and up, interleaved by 16 rows)."""

    name: str
    sources: tuple[SourceTensor, ...]
    format: Format
    asym: bool
    interleave: bool = False
    group: int = GROUP_SIZE

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return sum(s.shape[0] for s in self.sources), self.sources[0].shape[1]


Weights = Mapping[str, PackedWeight | Vector]


def load_weights(
    checkpoint: Checkpoint, dtype: str, cache_dir: Path, progress: Progress | None = None
) -> Weights:
    """Packed weights of `checkpoint` for `dtype` (not auto), from the cache or packed now.

    Raises ModelError if the checkpoint lacks a tensor or the cache cannot be written.
    """
    path = packed_path(checkpoint, dtype, cache_dir)
    key = path.stem
    weights = _read(path, key)
    if weights is not None:
        return weights
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, key, checkpoint, dtype, progress or (lambda done, total: None))
    except OSError as error:
        raise ModelError(
            f"cannot write the packed weights: {error.strerror}",
            "free some disk space, or point SIXFOLD_CACHE_DIR (--cache-dir) elsewhere",
        ) from error
    weights = _read(path, key)
    assert weights is not None, "the cache file just written does not read back"
    return weights


def packed_path(checkpoint: Checkpoint, dtype: str, cache_dir: Path) -> Path:
    """The cache file, whether or not it is there."""
    return cache_dir / "packed" / f"{checkpoint.content_key[:40]}-{dtype}-v{VERSION}.bin"


def auto_dtype(model: ModelConfig) -> str:
    """What dtype=auto means: the file's own bits, but bf16 below SMALL_HIDDEN.

    int8 activations cost a small model most: SmolLM2-135M's mean KL to fp32 is 0.0026 with them
    and 0.0002 without (tests/engine/test_accuracy.py), and the bytes saved are few.
    """
    return "bf16" if model.hidden_size < SMALL_HIDDEN else model.default_dtype


def choose_format(tensor: SourceTensor, name: str, dtype: str) -> Format:
    """The packed format of one source tensor.

    int4 keeps tables (embedding, output) and tensors that come in more than 4 bits at 8 bits.
    """
    if dtype in ("f32", "bf16"):
        return "f32" if dtype == "f32" else "bf16"
    table = name in ("embed.weight", "lm_head.weight")
    finer = tensor.kind.startswith(("q5", "q6", "q8"))
    return "w8" if dtype == "int8" or table or finer else "w4"


def plan(checkpoint: Checkpoint, dtype: str) -> tuple[list[Part], dict[str, list[SourceTensor]]]:
    """Which matrices to pack, and which vectors (each the sources to join)."""
    tensors, config = checkpoint.tensors, checkpoint.config
    matrices: list[tuple[str, list[str]]] = [("embed.weight", ["embed.weight"])]
    vectors: dict[str, list[str]] = {"final_norm.weight": ["final_norm.weight"]}
    if not config.tie_word_embeddings:
        matrices.append(("lm_head.weight", ["lm_head.weight"]))
    for i in range(config.num_layers):
        p = f"layers.{i}."
        matrices += [
            (p + "qkv.weight", [p + f"{n}.weight" for n in "qkv"]),
            (p + "o.weight", [p + "o.weight"]),
            (p + "gate_up.weight", [p + "gate.weight", p + "up.weight"]),
            (p + "down.weight", [p + "down.weight"]),
        ]
        for norm in _norms(config):
            vectors[p + norm] = [p + norm]
        if config.attention_bias:
            vectors[p + "qkv.bias"] = [p + f"{n}.bias" for n in "qkv"]
    parts = [_part(name, [tensors[s] for s in sources], dtype) for name, sources in matrices]
    return parts, {n: [tensors[s] for s in sources] for n, sources in vectors.items()}


def _norms(config: ModelConfig) -> list[str]:
    names = ["attn_norm.weight", "ffn_norm.weight"]
    if config.architecture in ("qwen3", "gemma3"):
        names += ["q_norm.weight", "k_norm.weight"]
    if config.architecture == "gemma3":
        names += ["post_attn_norm.weight", "post_ffn_norm.weight"]
    return names


def _part(name: str, sources: list[SourceTensor], dtype: str) -> Part:
    # Joined matrices share one format: the finest that any of them needs.
    order: list[Format] = ["w4", "w8", "bf16", "f32"]
    form = max((choose_format(s, name, dtype) for s in sources), key=order.index)
    four_bit = all(s.kind.startswith("q4") for s in sources)
    # In 8 bits a 4-bit file's codes are kept as they are, counted from their minimum.
    asym = four_bit if form == "w8" else any(s.kind != "q4_0" for s in sources)
    asym = asym and form in ("w4", "w8")
    exact = any(s.kind in EXACT_W8 for s in sources)
    group = WIDE_GROUP if form == "w8" and not asym and not exact else GROUP_SIZE
    return Part(name, tuple(sources), form, asym, name.endswith("gate_up.weight"), group)


def pack_rows(source: SourceTensor, start: int, stop: int, part: Part) -> list[NDArray[np.generic]]:
    """Rows as the arrays that `packing.pack_*` takes: exact codes where the source has them."""
    if part.format == "w4" or (part.format == "w8" and part.asym):
        codes = source.rows_w4(start, stop)
        return list(codes if codes is not None else packing.quantise_w4(source.rows(start, stop)))
    if part.format == "w8":
        exact = source.rows_w8(start, stop) if part.group == GROUP_SIZE else None
        return list(exact or packing.quantise_w8(source.rows(start, stop), part.group))
    return [source.rows(start, stop)]


def _blocks(part: Part) -> Iterator[list[NDArray[np.generic]]]:
    """The part's rows in order, whole panels at a time."""
    if part.interleave:
        rows = part.sources[0].shape[0]
        for start in range(0, rows, ROWS_AT_ONCE):
            stop = min(rows, start + ROWS_AT_ONCE)
            both = [pack_rows(s, start, stop, part) for s in part.sources]
            yield [_interleave(a, b) for a, b in zip(*both, strict=True)]
        return
    # Sources need not end at a panel's border, so what is left over goes before the next.
    rest: list[NDArray[np.generic]] | None = None
    for source in part.sources:
        for start in range(0, source.shape[0], ROWS_AT_ONCE):
            stop = min(source.shape[0], start + ROWS_AT_ONCE)
            rows_now = pack_rows(source, start, stop, part)
            if rest is not None:
                rows_now = [np.concatenate(pair) for pair in zip(rest, rows_now, strict=True)]
            whole = len(rows_now[0]) // packing.PANEL * packing.PANEL
            if whole:
                yield [a[:whole] for a in rows_now]
            rest = [a[whole:] for a in rows_now]
    if rest is not None and len(rest[0]):
        yield rest


def _interleave(gate: NDArray[np.generic], up: NDArray[np.generic]) -> NDArray[np.generic]:
    runs = [a.reshape(-1, 1, 16, a.shape[1]) for a in (gate, up)]
    return np.concatenate(runs, axis=1).reshape(-1, gate.shape[1])


def _pack(part: Part, arrays: list[NDArray[np.generic]]) -> NDArray[np.uint8]:
    if part.format == "w4":
        return packing.pack_w4(*arrays, part.asym)  # type: ignore[arg-type, call-arg]
    if part.format == "w8" and part.asym:
        return packing.pack_w8_asym(*arrays)  # type: ignore[arg-type]
    if part.format == "w8":
        return packing.pack_w8(*arrays, part.group)  # type: ignore[arg-type, call-arg]
    pack = packing.pack_bf16 if part.format == "bf16" else packing.pack_f32
    return pack(*arrays)  # type: ignore[arg-type]


def _layout(parts: list[Part], vectors: dict[str, list[SourceTensor]]) -> tuple[list[Entry], int]:
    entries, at = [], 0
    for part in parts:
        n, k = part.shape
        panels = packing.round_up(n, packing.PANEL) // packing.PANEL
        size = panels * packing.panel_bytes(part.format, k, part.asym, part.group)
        entries.append(Entry(name=part.name, format=part.format, shape=(n, k), asym=part.asym,
                             offset=at, size=size, group=part.group))  # fmt: skip
        at += packing.round_up(size, ALIGN)
    for name, sources in vectors.items():
        n = sum(s.shape[0] for s in sources)
        entries.append(Entry(name=name, format="f32", shape=(n,), offset=at, size=4 * n))
        at += packing.round_up(4 * n, ALIGN)
    return entries, at


def _write(path: Path, key: str, checkpoint: Checkpoint, dtype: str, progress: Progress) -> None:
    parts, vectors = plan(checkpoint, dtype)
    entries, total = _layout(parts, vectors)
    header = msgspec.json.encode(Header(version=VERSION, key=key, total=total, entries=entries))
    # Not mkstemp, whose files are their maker's alone: users may share a cache.
    name = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with name.open("xb") as f:
            f.write(MAGIC + len(header).to_bytes(8, "little") + header)
            start = packing.round_up(f.tell(), ALIGN)
            by_name = {e.name: e for e in entries}
            for part in parts:
                f.seek(start + by_name[part.name].offset)
                _write_part(f, part)
                progress(by_name[part.name].offset, total)
            for name_, sources in vectors.items():
                f.seek(start + by_name[name_].offset)
                joined = np.concatenate([s.rows(0, s.shape[0]) for s in sources])
                f.write(joined.astype("<f4").data)
            f.truncate(start + total)
            progress(total, total)
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def _write_part(f: BinaryIO, part: Part) -> None:
    for arrays in _blocks(part):
        f.write(_pack(part, arrays).data)


def _read(path: Path, key: str) -> Weights | None:
    """The file's tensors, or None where it can't be read, or is not what it should be."""
    try:
        opened = path.open("rb")
    except OSError:
        return None
    with opened as f:
        magic, length = f.read(8), int.from_bytes(f.read(8), "little")
        if magic != MAGIC or length > os.path.getsize(path):
            return None
        try:
            header = msgspec.json.decode(f.read(length), type=Header)
        except msgspec.DecodeError:
            return None
        start = packing.round_up(f.tell(), ALIGN)
        if header.version != VERSION or header.key != key:
            return None
        if os.path.getsize(path) != start + header.total:
            return None
        f.seek(start)
        data = huge_buffer(header.total)
        view = data.data
        done = 0
        while done < header.total:
            count = f.readinto(view[done : done + (64 << 20)])
            if not count:
                return None
            done += count
    return {e.name: _tensor(e, data) for e in header.entries}


def _tensor(entry: Entry, data: NDArray[np.uint8]) -> PackedWeight | Vector:
    part = data[entry.offset : entry.offset + entry.size]
    if len(entry.shape) == 1:
        return Vector(part.view(np.float32))
    n, k = entry.shape
    form: Format = next(f for f in packing.FORMATS if f == entry.format)
    panels = packing.round_up(n, packing.PANEL) // packing.PANEL
    packed = part.reshape(panels, -1)
    return PackedWeight(form, n, k, packed, entry.asym, group=entry.group)
