"""Reads a JSON object from a file that we do not trust. Knows nothing of what is in it."""

import json
from pathlib import Path
from typing import Any, NoReturn

from sixfold.core.errors import ModelError
from sixfold.engine.models.file_reader import FileReader

MAX_JSON = 1 << 26


def read_json(path: Path, most: int = MAX_JSON) -> dict[str, Any]:
    """The object in `path`, at most `most` bytes. Raises ModelError."""
    reader = FileReader(path)
    if reader.size > most:
        raise ModelError(f"{path.name} has {reader.size} bytes", f"at most {most} are read")
    return parse_json(reader.read(0, reader.size), path.name)


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """The object in `data`: strict (no NaN, no key twice). Raises ModelError naming `what`."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ModelError(
            f"{what} is not valid JSON: {reason}", "the file is damaged: fetch it again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{what} holds no JSON object", "the file is damaged: fetch it again")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key occurs twice")
    return out


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
