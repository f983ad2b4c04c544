"""Traces as files: JSON Lines that are appended line by line, so that a kill costs no whole line.

A line is handed to the system in one write as soon as it is known. What a kill left of a last line
is left out when reading, and cut off before more is appended. Not here: what a line holds (entry).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder.entry import SALT_BYTES, VERSION, Entry, Header
from sixfold.instrument.workloads.lines import Line, read_lines

SIGN = b'{"sixfold_trace":'
"""What a header's line begins with."""
_TAIL = 1 << 16
_entry = msgspec.json.Decoder(Entry)
_header = msgspec.json.Decoder(Header)


def new_header(start: datetime, source: str = "proxy", keep_text: bool = False) -> Header:
    """A header with a salt of its own."""
    return Header(
        sixfold_trace=VERSION,
        start=start.astimezone(UTC).isoformat(),
        salt=os.urandom(SALT_BYTES).hex(),
        source=source,
        keep_text=keep_text,
    )


class TraceWriter:
    """Appends to one trace. Raises ConfigError: the file is there already, or can't be written."""

    def __init__(self, path: Path, header: Header, append: bool = False) -> None:
        """A new file, readable by its owner only; `append` goes on with one that is there.

        An appended recording takes over the file's salt: its hashes are comparable with those.
        """
        self.path = path
        self.count = 0
        """Entries written."""
        old = _begun(path) if append else None
        self.header = msgspec.structs.replace(header, salt=old.salt) if old else header
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if append else os.O_EXCL)
        try:
            self._file = os.open(path, flags, 0o600)
        except FileExistsError:
            hint = "pass --append to go on with it, or name another file"
            raise ConfigError(f"{path} is there already", hint) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        try:
            if old:
                _cut_tail(self._file)
            self._line(self.header)
        except BaseException:
            self.close()
            raise

    @property
    def salt(self) -> bytes:
        """The key of its hashes."""
        return bytes.fromhex(self.header.salt)

    def write(self, entry: Entry) -> None:
        """Append an entry, at once. Raises ConfigError if it can't be written."""
        self._line(entry)
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _line(self, value: Entry | Header) -> None:
        left = memoryview(msgspec.json.encode(value) + b"\n")
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise _unwritable(self.path, error) from None


def is_trace(path: str) -> bool:
    """Whether a file is one of ours. Raises ConfigError if it can't be read."""
    first = next(read_lines(path), None)
    return first is not None and first.data.startswith(SIGN)


def read_header(path: str) -> Header:
    """The first header. Raises ConfigError for a file that is no trace."""
    for line in read_lines(path):
        return _decode_header(line)
    raise ConfigError(f"{path}: the file is empty", "record one: sixfold record --help")


def keeps_text(path: str) -> bool:
    """Whether any recording of a trace kept its prompts' text; False for what is no trace."""
    return any(
        line.data.startswith(SIGN) and _decode_header(line).keep_text for line in read_lines(path)
    )


def read_entries(lines: Iterable[Line]) -> Iterator[Entry]:
    """Entries in the file's order, `at` counted from the first header's start.

    Raises ConfigError with file and line for a wrong one; the last may be cut.
    """
    zero: datetime | None = None
    offset = 0.0
    for line, last in _with_last(lines):
        try:
            if zero is None or line.data.startswith(SIGN):
                start = _time(line, _decode_header(line).start)
                zero = zero or start
                offset = (start - zero).total_seconds()
                continue
            entry = line.decode(_entry)
        except ConfigError:
            if zero is not None and last and not _whole(line.data):
                return
            raise
        yield msgspec.structs.replace(entry, at=entry.at + offset) if offset else entry


def _begun(path: Path) -> Header | None:
    """The header of a trace that is to be appended to; None for a file that is not there."""
    if not path.exists() or not path.stat().st_size:
        return None
    with path.open("rb") as file:
        packed = not file.read(len(SIGN)).startswith(SIGN)
    header = read_header(str(path))
    if packed:
        raise ConfigError(f"{path} is packed", "unpack it, or record to a new file")
    return header


def _with_last(lines: Iterable[Line]) -> Iterator[tuple[Line, bool]]:
    held: Line | None = None
    for line in lines:
        if held is not None:
            yield held, False
        held = line
    if held is not None:
        yield held, True


def _decode_header(line: Line) -> Header:
    hint = "a trace of sixfold begins with a line such as " + SIGN.decode() + "1, ...}"
    if not line.data.startswith(SIGN):
        raise line.error("is not a header", hint)
    header = line.decode(_header)
    if header.sixfold_trace != VERSION:
        raise line.error(f"a trace of version {header.sixfold_trace}", f"this reads {VERSION}")
    with suppress(ValueError):
        if len(bytes.fromhex(header.salt)) in (0, SALT_BYTES):
            return header
    raise line.error("the salt is no hexadecimal number of the right length", hint)


def _time(line: Line, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise line.error(f"not a date: {text[:40]!r}", "as 2026-01-31T12:00:00+00:00") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _whole(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _cut_tail(file: int) -> None:
    """Cut off what follows the last line's end."""
    end = size = os.fstat(file).st_size
    while end:
        start = max(0, end - _TAIL)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"can't write {path}: {error.strerror}", "check the path and its disk")
