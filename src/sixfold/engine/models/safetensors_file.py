"""Reads safetensors: one file, or the files that an index names. Lazy: headers only.

Does not know models. The header is parsed here, not by the safetensors library, because NumPy
has no bfloat16 and because every size must be checked before something is allocated for it.

Source: the format's description in the safetensors README.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sixfold.core.errors import ModelError
from sixfold.engine.models.file_reader import FileReader
from sixfold.engine.models.json_file import parse_json, read_json

MAX_HEADER = 100 << 20
MAX_DIMS = 8
MAX_FILES = 512
MAX_ELEMENTS = 1 << 44
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_KINDS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
_READ_AGAIN = "the file is truncated or damaged: fetch it again"


@dataclass(frozen=True, slots=True)
class StoredAt:
    """Where a tensor lies. `kind` is f32, f16 or bf16, or the file's own word for another dtype."""

    reader: FileReader
    offset: int
    shape: tuple[int, ...]
    kind: str


def read_safetensors(path: Path) -> dict[str, StoredAt]:
    """The tensors of one file, by name. Raises ModelError."""
    reader = FileReader(path)
    if reader.size < 10:
        raise ModelError(f"{path.name} is no safetensors file", _READ_AGAIN)
    length = int.from_bytes(reader.read(0, 8), "little")
    if length > MAX_HEADER or 8 + length > reader.size:
        raise ModelError(f"{path.name} claims a header of {length} bytes", _READ_AGAIN)
    header = parse_json(reader.read(8, length), f"the header of {path.name}")
    header.pop("__metadata__", None)
    start = 8 + length
    found: dict[str, StoredAt] = {}
    ends: list[tuple[int, int]] = []
    for name, entry in header.items():
        kind, shape, begin, end = _entry(name, entry)
        found[name] = StoredAt(reader, start + begin, shape, kind)
        ends.append((begin, end))
    at = 0
    for begin, end in sorted(ends):
        if begin != at:
            raise ModelError(f"{path.name} has tensors that overlap or leave gaps", _READ_AGAIN)
        at = end
    if start + at != reader.size:
        raise ModelError(
            f"{path.name} has {reader.size} bytes, but its header says {start + at}", _READ_AGAIN
        )
    return found


def read_directory(directory: Path) -> tuple[dict[str, StoredAt], list[Path]]:
    """The tensors of a model directory and the files they are in. Raises ModelError."""
    single, index = directory / SINGLE, directory / INDEX
    if single.is_file():
        return read_safetensors(single), [single]
    if not index.is_file():
        raise ModelError(
            f"{directory} has neither {SINGLE} nor {INDEX}",
            "name a directory with safetensors weights (other formats are never loaded)",
        )
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{INDEX} has no weight_map", _READ_AGAIN)
    names = sorted({str(file) for file in places.values()})
    if len(names) > MAX_FILES:
        raise ModelError(f"{INDEX} names {len(names)} files", f"at most {MAX_FILES} are read")
    paths = [_plain(directory, name) for name in names]
    files = {name: read_safetensors(path) for name, path in zip(names, paths, strict=True)}
    tensors: dict[str, StoredAt] = {}
    for name, file in places.items():
        if name not in files[str(file)]:
            raise ModelError(f"{file} lacks tensor {name}, which {INDEX} puts there", _READ_AGAIN)
        tensors[name] = files[str(file)][name]
    return tensors, paths


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """(kind, shape, begin, end) of one header entry, checked by itself."""
    if not isinstance(entry, dict):
        raise ModelError(f"tensor {name!r} has no description", _READ_AGAIN)
    dtype = entry.get("dtype")
    shape, offsets = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ModelError(f"tensor {name!r} has the unknown dtype {dtype!r}", _READ_AGAIN)
    if shape is None or len(shape) > MAX_DIMS or offsets is None or len(offsets) != 2:
        raise ModelError(f"tensor {name!r} has an impossible shape or place", _READ_AGAIN)
    elements = 1
    for dim in shape:
        elements = min(elements * dim, MAX_ELEMENTS + 1)
    begin, end = offsets
    if elements > MAX_ELEMENTS or end - begin != elements * _BYTES[dtype]:
        raise ModelError(f"tensor {name!r} does not have the size of its shape", _READ_AGAIN)
    return _KINDS.get(dtype, dtype), shape, begin, end


def _counts(value: Any) -> tuple[int, ...] | None:
    """A list of sizes, None if it is anything else."""
    if isinstance(value, list) and all(type(v) is int and 0 <= v < 1 << 62 for v in value):
        return tuple(value)
    return None


def _plain(directory: Path, file: str) -> Path:
    """A file of the directory itself. Raises ModelError for names that lead elsewhere."""
    strange = any(c in "/\\" or not c.isprintable() for c in file)
    if strange or file.startswith(".") or not file.endswith(".safetensors") or len(file) > 255:
        raise ModelError(f"{INDEX} names {file!r}, no plain .safetensors file", _READ_AGAIN)
    path, home = directory / file, directory.resolve()
    real = path.resolve()
    # The Hugging Face cache keeps files in blobs/ and links to them from snapshots/REVISION/.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if real.parent not in (home, blobs):
        raise ModelError(f"{file} is a link out of the model's directory", "copy the file there")
    return path
