"""Reads a GGUF file's header (versions 2 and 3, little endian): metadata and where tensors lie.

Does not read tensor data and knows nothing of models. Every count, length and offset is checked
against the file's length and a cap before anything is allocated for it.

Source: the format's description in ggml, docs/gguf.md.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sixfold.core.errors import ModelError
from sixfold.engine.models.dequant import BLOCKS
from sixfold.engine.models.file_reader import FileReader

MAX_HEADER = 1 << 28
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_NAME = (1 << 16) - 1
MAX_STRING = 1 << 24
MAX_ARRAY = 1 << 24
MAX_ELEMENTS = 1 << 44

_MAGIC = b"GGUF"
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", _BOOL: "<u1",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
# ggml's type numbers. Integers are here so that a file may hold them; no model reads them.
_KINDS = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 12: "q4_k",
    13: "q5_k", 14: "q6_k", 24: "i8", 25: "i16", 26: "i32", 27: "i64", 28: "f64", 30: "bf16",
}  # fmt: skip
_READ_AGAIN = "the file is damaged or no GGUF model: fetch it again"


class StringArray(Sequence[str]):
    """A metadata array of strings, decoded when asked for: `tolist()`, or as any sequence.

    Decoding raises ModelError where the bytes are not UTF-8.
    """

    def __init__(self, data: bytes, starts: "array[int]") -> None:
        """`data` is the array's bytes in the file; string i ends 8 bytes before string i + 1."""
        self._data, self._starts = data, starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        i = index % len(self)
        return _text(self._data[self._starts[i] : self._starts[i + 1] - 8], "a string array")

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def tolist(self) -> list[str]:
        """All strings."""
        data, starts = self._data, self._starts
        try:
            return [data[a : b - 8].decode() for a, b in pairwise(starts)]
        except UnicodeDecodeError as error:
            raise ModelError("a string array in the file is not UTF-8", _READ_AGAIN) from error


Value = int | float | bool | str | NDArray[Any] | StringArray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `shape` has rows first, `offset` counts from the file's start."""

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """The header. Numeric arrays in `metadata` are NumPy arrays, string arrays `StringArray`."""

    path: Path
    version: int
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]
    reader: FileReader


def read_gguf(path: Path) -> GGUFFile:
    """Read and check the header. Raises ModelError: not GGUF, damaged, truncated, unsupported."""
    reader = FileReader(path)
    cursor = _Cursor(reader)
    version = _version(cursor)
    num_tensors = cursor.count("tensors", MAX_TENSORS)
    num_keys = cursor.count("metadata keys", MAX_KEYS)
    metadata: dict[str, Value] = {}
    for _ in range(num_keys):
        key = cursor.string(MAX_NAME)
        if key in metadata:
            raise ModelError(f"metadata key {key!r} occurs twice", _READ_AGAIN)
        metadata[key] = _value(cursor, cursor.u32(), key)
    split = metadata.get("split.count", 1)
    if isinstance(split, int) and split > 1:
        raise ModelError(
            f"{path.name} is one of {split} parts of a model",
            "merge them with llama.cpp's llama-gguf-split --merge",
        )
    alignment = _alignment(metadata)
    infos = [_tensor_info(cursor) for _ in range(num_tensors)]
    start = -(-cursor.pos // alignment) * alignment
    return GGUFFile(path, version, metadata, _place(infos, start, alignment, reader), reader)


class _Cursor:
    """Reads forward through the header, fetching more of the file as it goes."""

    def __init__(self, reader: FileReader) -> None:
        self.reader, self.pos, self.data = reader, 0, b""
        self.limit = min(reader.size, MAX_HEADER)

    def need(self, size: int) -> None:
        """Make `data` hold the next `size` bytes."""
        end = self.pos + size
        if end > self.limit:
            raise ModelError(f"{self.reader.path.name} ends inside its header", _READ_AGAIN)
        have = len(self.data)
        if end > have:
            more = min(max(end - have, have, 1 << 20), self.limit - have)
            self.data += self.reader.read(have, more)

    def take(self, size: int) -> bytes:
        self.need(size)
        self.pos += size
        return self.data[self.pos - size : self.pos]

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        return int(_U64.unpack(self.take(8))[0])

    def count(self, what: str, most: int) -> int:
        """A number of things, of which each takes at least a byte of the file."""
        value = self.u64()
        if value > most or value > self.limit:
            raise ModelError(f"the header claims {value} {what}", _READ_AGAIN)
        return value

    def string(self, most: int) -> str:
        return _text(self.take(self.count("characters", most)), "a string")

    def strings(self, count: int) -> StringArray:
        self.need(8 * count)
        first, pos, data = self.pos, self.pos, self.data
        starts = array("Q", bytes(8 * (count + 1)))
        unpack = _U64.unpack_from
        for i in range(count):
            if pos + 8 > len(data):
                self.pos = pos
                self.need(8)
                data = self.data
            (size,) = unpack(data, pos)
            pos += 8
            starts[i] = pos - first
            if size > len(data) - pos:
                if size > MAX_STRING:
                    raise ModelError(f"the header claims a string of {size} bytes", _READ_AGAIN)
                self.pos = pos
                self.need(size)
                data = self.data
            pos += size
        starts[count] = pos - first + 8
        self.pos = pos
        return StringArray(data[first:pos], starts)


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{what} in the file is not UTF-8", _READ_AGAIN) from error


def _version(cursor: _Cursor) -> int:
    if cursor.reader.size < 24 or cursor.take(4) != _MAGIC:
        raise ModelError(f"{cursor.reader.path.name} is no GGUF file", "name a .gguf model")
    version = cursor.u32()
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0:
        raise ModelError("the file is big endian GGUF", "use a little endian conversion")
    raise ModelError(
        f"the file has GGUF version {version}; this build reads 2 and 3",
        "convert the model again with a current llama.cpp",
    )


def _value(cursor: _Cursor, kind: int, key: str) -> Value:
    if kind == _STRING:
        return cursor.string(MAX_STRING)
    if kind == _ARRAY:
        kind, count = cursor.u32(), cursor.count(f"values of {key!r}", MAX_ARRAY)
        if kind == _STRING:
            return cursor.strings(count)
        return _numbers(cursor, kind, count, key)
    value: int | float | bool = _numbers(cursor, kind, 1, key)[0].item()
    return value


def _numbers(cursor: _Cursor, kind: int, count: int, key: str) -> NDArray[Any]:
    if kind not in _SCALARS:
        raise ModelError(f"metadata key {key!r} has the unknown type {kind}", _READ_AGAIN)
    dtype = np.dtype(_SCALARS[kind])
    # The bytes are a copy of their own, so the header's buffer is not kept alive.
    values = np.frombuffer(cursor.take(count * dtype.itemsize), dtype)
    if kind == _BOOL:
        if count and int(values.max()) > 1:
            raise ModelError(f"metadata key {key!r} is neither true nor false", _READ_AGAIN)
        return values.view(np.bool_)
    return values


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", 32)
    fine = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1 << 20
    if not (fine and isinstance(value, int) and value & (value - 1) == 0):
        raise ModelError(f"general.alignment is {value}, not a power of two", _READ_AGAIN)
    return value


def _tensor_info(cursor: _Cursor) -> TensorInfo:
    """The next tensor; its offset still counts from the start of the data."""
    name = cursor.string(MAX_NAME)
    num_dims = cursor.u32()
    if not 1 <= num_dims <= 4:
        raise ModelError(f"tensor {name!r} has {num_dims} dimensions", _READ_AGAIN)
    dims = [cursor.u64() for _ in range(num_dims)]
    number, offset = cursor.u32(), cursor.u64()
    elements = 1
    for dim in dims:
        elements *= dim
        if not 0 < elements <= MAX_ELEMENTS:
            raise ModelError(f"tensor {name!r} has the impossible shape {dims}", _READ_AGAIN)
    if number not in _KINDS:
        known = ", ".join(k.upper() for k in BLOCKS if not k.startswith("i"))
        raise ModelError(
            f"tensor {name!r} has ggml type {number}, which this build does not read",
            f"use a model quantised as one of: {known}",
        )
    block, size = BLOCKS[_KINDS[number]]
    if dims[0] % block:
        raise ModelError(f"tensor {name!r} has rows of {dims[0]}, no whole blocks", _READ_AGAIN)
    return TensorInfo(name, _KINDS[number], tuple(reversed(dims)), offset, elements // block * size)


def _place(
    infos: list[TensorInfo], start: int, alignment: int, reader: FileReader
) -> dict[str, TensorInfo]:
    """Tensors by name with offsets from the file's start: aligned, inside the file, disjoint."""
    out: dict[str, TensorInfo] = {}
    end = start
    for info in sorted(infos, key=lambda i: i.offset):
        offset = start + info.offset
        if info.name in out:
            raise ModelError(f"tensor {info.name!r} occurs twice", _READ_AGAIN)
        if info.offset % alignment or offset < end or offset + info.size > reader.size:
            raise ModelError(
                f"tensor {info.name!r} does not lie where a tensor can: {info.size} bytes at "
                f"{offset} of a file of {reader.size}",
                "the file is truncated or damaged: fetch it again",
            )
        end = offset + info.size
        out[info.name] = TensorInfo(info.name, info.kind, info.shape, offset, info.size)
    return out
