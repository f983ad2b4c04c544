"""Results of any known tool from one file: JSON, JSON Lines, either gzipped; our own lines, too.

A file that is still being written may end in part of a line: that part is left for the next read.
Not here: stores (store.py), what a tool's fields mean (its module).
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.store.importers import (
    aiperf,
    guidellm,
    inference_perf,
    llm_optimizer,
    sglang_bench,
    vllm_bench,
)
from sixfold.instrument.store.importers.common import UNKNOWN, Json, shaped, utc

MAX_BYTES = 128 << 20
"""Of a file's text, unpacked: it is held in memory."""
OWN = {"id", "engine", "model", "date"}
OURS = "sixfold"
EPOCH = "1970-01-01T00:00:00Z"


class ResultFormat(NamedTuple):
    """How one tool's results are known and read."""

    name: str
    sniff: Callable[[Json], bool]
    points: Callable[[Json, str], Iterator[Point]]


def _own_points(document: Json, _name: str) -> Iterator[Point]:
    yield shaped(document, Point, OURS)


FORMATS = (
    ResultFormat(OURS, lambda document: document.keys() >= OWN, _own_points),
    *(
        ResultFormat(module.TOOL, module.sniff, module.points)
        for module in (
            llm_optimizer,
            vllm_bench,
            sglang_bench,
            guidellm,
            aiperf,
            inference_perf,
        )
    ),
)


def read_results(path: Path) -> list[Point]:
    """The file's points. Raises ConfigError with the line for what is of no known format."""
    text = _text(path)
    points: list[Point] = []
    for line, document in _documents(path.name, text):
        try:
            points += _points(document, path.name)
        except ConfigError as error:
            raise ConfigError(f"{path.name}:{line}: {error.message}", error.hint) from error
        except RecursionError as error:
            raise ConfigError(f"{path.name}:{line} is nested too deeply", _hint()) from error
    return [point if point.date else _dated(point, path) for point in points]


def completed(point: Point, engine: str, model: str, hardware: str) -> Point:
    """The point with what its file did not name; what it named stays."""
    return replace(
        point,
        engine=engine if engine and point.engine == UNKNOWN else point.engine,
        model=model if model and point.model == UNKNOWN else point.model,
        hardware=point.hardware or hardware,
    )


def _dated(point: Point, path: Path) -> Point:
    """Of a tool that writes no date: the file's own; the point says so."""
    note = {"dated_by": "the file's last change"}
    return replace(point, date=utc(path.stat().st_mtime) or EPOCH, client=point.client | note)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(
                f"{path.name} has more than {MAX_BYTES >> 20} MB", "leave out single requests"
            )
        return content.decode("utf-8-sig", errors="strict" if packed else "surrogateescape")
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"can't unpack {path.name}: {error}", "is the file whole?") from error
    except OSError as error:
        raise ConfigError(
            f"can't read {path.name}: {error.strerror or error}", "is the path right?"
        ) from error


def _documents(name: str, text: str) -> Iterator[tuple[int, Any]]:
    """The documents and the lines where they begin: the whole text, or one a line."""
    try:
        found = _parse(text)
    except ValueError as error:
        whole = error
    else:
        yield from ((1, item) for item in (found if isinstance(found, list) else [found]))
        return
    lines = text.split("\n")
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if len(numbered) > 1 and not _is_json(numbered[0][1]):
        raise ConfigError(f"{name} is no JSON: {whole}", _hint()) from whole
    for number, line in numbered:
        try:
            yield number, _parse(line)
        except ValueError as error:
            if number == len(lines) and (len(numbered) > 1 or ".jsonl" in name):
                return  # its end is not written yet
            raise ConfigError(f"{name}:{number} is no JSON: {error}", _hint()) from error


def _parse(text: str) -> Any:
    """Also of what is not strict JSON but written by some tools: NaN, Infinity."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _is_json(line: str) -> bool:
    try:
        _parse(line)
    except ValueError:
        return False
    return True


def _points(document: Any, name: str) -> list[Point]:
    if isinstance(document, dict):
        for known in FORMATS:
            if known.sniff(document):
                return list(known.points(document, name))
    raise ConfigError("these are no results of a known format", _hint())


def _hint() -> str:
    return "known: " + ", ".join(known.name for known in FORMATS)
