"""Points as JSON Lines: one object a line, whole points only.

A file that a writer is still appending to may end in part of a line: that part is left for the
next read. Not here: other tools' formats.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point

MAX_LINE = 1 << 20
"""Bytes of the longest line that is read."""

_decode = msgspec.json.Decoder(Point).decode


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


def read_lines(path: Path) -> Iterator[Point]:
    """The points of a file. Raises ConfigError with the line's number for one that is none."""
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
                    yield _decode(line)
    except OSError as error:
        raise ConfigError(
            f"can't read {path.name}: {error.strerror}", "is the path right?"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path.name}:{number} is no point: {error}", "export it again"
        ) from error


def _whole(line: bytes) -> bool:
    """Whether the file's last line, without its end, is a whole object."""
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True
