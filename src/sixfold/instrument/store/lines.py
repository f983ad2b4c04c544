"""Records as JSON Lines, mostly points: one object a line, whole ones only.

A file that a writer is still appending to may end in part of a line: that part is left for the
next read. Not here: other tools' formats.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point

MAX_LINE = 1 << 20
"""Bytes of the longest line that is read."""

T = TypeVar("T", bound=msgspec.Struct)


def write_lines(path: Path, points: Iterable[Point]) -> int:
    """Write points to a new file (an old one is replaced when all are written); their number."""
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("wb") as file:
        for point in points:
            file.write(msgspec.json.encode(point) + b"\n")
            count += 1
    partial.replace(path)
    return count


def append_lines(path: Path, records: Iterable[msgspec.Struct]) -> None:
    """Add records to a file's end; each is on its way to the disk before the next."""
    with path.open("ab") as file:
        for record in records:
            file.write(msgspec.json.encode(record) + b"\n")
            file.flush()


def read_lines(path: Path) -> Iterator[Point]:
    """The points of a file. Raises ConfigError with the line's number for one that is none."""
    return read_records(path, Point)


def read_records(path: Path, kind: type[T]) -> Iterator[T]:
    """As `read_lines`, of any type."""
    decode = msgspec.json.Decoder(kind).decode
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise ConfigError(f"{path.name}:{number} is too long", "one point a line")
                if not line.endswith(b"\n") and not _whole(line):
                    return
                if line.strip():
                    yield decode(line)
    except OSError as error:
        raise ConfigError(
            f"can't read {path.name}: {error.strerror}", "is the path right?"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path.name}:{number} is no {kind.__name__.lower()}: {error}", "export it again"
        ) from error


def _whole(line: bytes) -> bool:
    """Whether the file's last line, without its end, is a whole object."""
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True
