"""Lines of a file of any size, plain, .gz or .zst: one at a time, none longer than a limit.

Not here: what a line means (lines.py).
"""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from sixfold.core.errors import SixfoldError

MAX_LINE_BYTES = 8 << 20
"""Longest line that is read; of a longer one nothing is kept."""

CHUNK_BYTES = 1 << 16
COMPRESSED = (".gz", ".zst")


class Line(NamedTuple):
    """`data` is None for a line that is too long."""

    number: int
    """From 1; empty lines count."""
    data: bytes | None
    end: int
    """Where the next one begins, in bytes of plain text."""


class Place(NamedTuple):
    """Where reading goes on: the number of lines before it, and its offset in plain text."""

    line: int = 0
    offset: int = 0


def open_input(path: Path) -> BinaryIO:
    """The file's plain text. Raises SixfoldError where there is none."""
    try:
        if path.suffix == ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        file = path.open("rb")
    except OSError as error:
        raise SixfoldError(
            f"can't read {path}: {error.strerror}", "check the input's name"
        ) from None
    if path.suffix == ".zst":
        plain = (
            _zstd().ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=True)
        )
        return cast(BinaryIO, io.BufferedReader(plain))
    return file


def open_compressed(path: Path, suffix: str) -> BinaryIO:
    """A new file to write plain text to, compressed as `suffix` says."""
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "wb", compresslevel=6))
    if suffix == ".zst":
        return cast(BinaryIO, _zstd().open(str(path), "wb"))
    return path.open("wb")


def _zstd() -> Any:
    try:
        import zstandard
    except ImportError:
        raise SixfoldError(
            ".zst needs the zstandard package", "pip install 'sixfold[zst]', or use .gz"
        ) from None
    return zstandard


class LineReader:
    """Reads forward from a place. Raises SixfoldError where the file is damaged."""

    def __init__(self, path: Path, place: Place, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._path = path
        self._limit = max_line_bytes
        self._file = open_input(path)
        self._number, self.offset = place
        try:
            if path.suffix in COMPRESSED:
                self._pass_over(place.offset)
            else:
                self._file.seek(place.offset)
        except Exception as error:  # what damaged archives raise differs by library
            self._file.close()
            raise self._damaged(error) from None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def lines(self) -> Iterator[Line]:
        """The lines from here on."""
        while True:
            try:
                data = self._file.readline(self._limit + 2)
                size = len(data)
                cut = size > self._limit and not data.endswith(b"\n")
                size += self._pass_line() if cut else 0
            except Exception as error:
                raise self._damaged(error) from None
            if not size:
                return
            self._number += 1
            self.offset += size
            text = data.rstrip(b"\r\n")
            yield Line(self._number, None if len(text) > self._limit else text, self.offset)

    def _pass_line(self) -> int:
        """Walk to the end of a line without keeping it; its bytes."""
        size = 0
        while piece := self._file.readline(CHUNK_BYTES):
            size += len(piece)
            if piece.endswith(b"\n"):
                break
        return size

    def _pass_over(self, size: int) -> None:
        while size > 0:
            piece = self._file.read(min(size, CHUNK_BYTES))
            if not piece:
                raise EOFError("it was longer before")
            size -= len(piece)

    def _damaged(self, error: Exception) -> SixfoldError:
        return SixfoldError(
            f"{self._path} can't be read to its end: {error}", "is the file whole? copy it again"
        )
