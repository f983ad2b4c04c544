"""Lines of plain and gzip files, numbered and of bounded size; errors that name file and line.

Not here: what the lines mean (files, formats).
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import TypeVar

import msgspec

from sixfold.core.errors import ConfigError

MAX_LINE = 16 << 20
"""Bytes of a line."""
MAX_FILE = 2 << 30
"""Bytes of a file that must be read whole, unpacked."""
GZIP = b"\x1f\x8b"
T = TypeVar("T")


class Line(msgspec.Struct, frozen=True):
    """One line without its end, and where it is from."""

    file: str
    number: int
    """Counted from 1."""
    data: bytes

    def error(self, problem: str, hint: str = "") -> ConfigError:
        """To be raised: the problem with file and line before it."""
        return ConfigError(f"{self.file}:{self.number}: {problem}", hint)

    def decode(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """The line's JSON. Raises ConfigError if it is not what the decoder expects."""
        try:
            return decoder.decode(self.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self.error(str(error)) from None

    def text(self) -> str:
        """The line as UTF-8. Raises ConfigError if it is not."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.error("is not UTF-8 text") from None


def read_lines(path: str) -> Iterator[Line]:
    """All lines that are not blank. Raises ConfigError: no such file, damaged, or a line too long.

    A byte order mark is left out; the file stays open until the iterator is done or closed.
    """
    with _open(path) as file:
        number = 0
        while True:
            number += 1
            data = _read(path, number, file.readline, MAX_LINE + 1)
            if not data:
                return
            if len(data) > MAX_LINE:
                raise ConfigError(f"{path}:{number}: line of more than {MAX_LINE} bytes")
            data = (data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data).strip()
            if data:
                yield Line(path, number, data)


def read_whole(path: str) -> bytes:
    """A file's content. Raises ConfigError if it can't be read or has more than MAX_FILE bytes."""
    with _open(path) as file:
        data = _read(path, 1, file.read, MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: more than {MAX_FILE} bytes", "cut it into smaller files")
    return data


def _open(path: str) -> BufferedReader | gzip.GzipFile:
    try:
        with open(path, "rb") as probe:
            packed = probe.read(2) == GZIP
        return gzip.open(path, "rb") if packed else open(path, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"can't read {path!r}: {reason}", "check the path") from None


def _read(path: str, number: int, read: Callable[[int], bytes], limit: int) -> bytes:
    try:
        return read(limit)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}:{number}: {error}", "the file is damaged: get it anew") from None
