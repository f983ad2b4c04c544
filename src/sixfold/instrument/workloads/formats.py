"""Rows of request traces: sixfold's own, Mooncake, Azure, BurstGPT, Bailian. A parser for each.

Not here: what is sent for a row (traces).
"""

import csv
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder.entry import Message
from sixfold.instrument.recorder.trace_file import read_entries, read_header
from sixfold.instrument.workloads.content import MAX_LENGTH
from sixfold.instrument.workloads.lines import Line, read_lines

Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH)]
BlockId = Annotated[int, msgspec.Meta(ge=0)]
MAX_TIME = 1e12
"""Seconds; more is a damaged number."""


class Row(msgspec.Struct, frozen=True):
    """One request of a trace."""

    at: float
    """Seconds, on the trace's own clock."""
    input: int
    """Tokens."""
    output: int
    """Tokens."""
    hash_ids: tuple[int, ...] = ()
    """A number per block of the prompt: equal ones have equal tokens."""
    prompt: tuple[Message, ...] = ()
    """Its text, where the trace has it."""


class Format(msgspec.Struct, frozen=True):
    """How a file is read: its rows, and the tokens of a block (0: it has none)."""

    name: str
    block: int
    rows: Callable[[Iterator[Line]], Iterator[Row]]


class _Mooncake(msgspec.Struct):
    timestamp: float
    input_length: Tokens
    output_length: Tokens
    hash_ids: tuple[BlockId, ...] = ()


class _Bailian(msgspec.Struct):
    """As Mooncake's, but seconds; ids of conversations are in it, but hash ids already say all."""

    chat_id: int | str
    timestamp: float
    input_length: Tokens
    output_length: Tokens
    parent_chat_id: int | str | None = None
    type: str | None = None
    turn: int | None = None
    hash_ids: tuple[BlockId, ...] = ()


def _mooncake(lines: Iterator[Line]) -> Iterator[Row]:
    return _json(lines, msgspec.json.Decoder(_Mooncake), 1000.0)


def _bailian(lines: Iterator[Line]) -> Iterator[Row]:
    return _json(lines, msgspec.json.Decoder(_Bailian), 1.0)


def _json(lines: Iterator[Line], decoder: Any, per_second: float) -> Iterator[Row]:
    for line in lines:
        row = line.decode(decoder)
        at = _time(line, row.timestamp / per_second)
        yield Row(at, row.input_length, row.output_length, row.hash_ids)


def _azure(lines: Iterator[Line]) -> Iterator[Row]:
    for line, row in _csv(lines, ("timestamp", "contexttokens", "generatedtokens")):
        at = _date(line, row["timestamp"])
        tokens = _tokens(line, row["contexttokens"]), _tokens(line, row["generatedtokens"])
        yield Row(at, *tokens)


def _burstgpt(lines: Iterator[Line]) -> Iterator[Row]:
    """Rows with no response are requests that failed: left out."""
    for line, row in _csv(lines, ("timestamp", "request tokens", "response tokens")):
        tokens = _tokens(line, row["request tokens"]), _tokens(line, row["response tokens"])
        at = _time(line, _number(line, row["timestamp"]))
        if tokens[1]:
            yield Row(at, *tokens)


def _sixfold(lines: Iterator[Line]) -> Iterator[Row]:
    """Requests that were not answered, or of unknown length, are left out."""
    for entry in read_entries(lines):
        if entry.is_load:
            lengths = entry.input_tokens or 0, entry.output_tokens or 0
            yield Row(entry.at, *lengths, entry.hash_ids, entry.prompt)


FORMATS = {
    f.name: f
    for f in (
        Format("sixfold", 32, _sixfold),
        Format("mooncake", 512, _mooncake),
        Format("azure", 0, _azure),
        Format("burstgpt", 0, _burstgpt),
        Format("bailian", 16, _bailian),
    )
}
_SIGNS = (
    (b'"sixfold_trace"', "sixfold"),
    (b"contexttokens", "azure"),
    (b"response tokens", "burstgpt"),
    (b'"chat_id"', "bailian"),
    (b'"input_length"', "mooncake"),
)
"""What the first line of each format has, in small letters; Bailian's has Mooncake's too."""


def open_trace(path: str, name: str = "auto") -> tuple[Format, Iterator[Row]]:
    """A file's format, detected or as named, and its rows as they are read.

    Raises ConfigError: no such file, unknown format; and, while rows are read, a wrong row.
    """
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise ConfigError(f"{path}: the file is empty", "a trace has a row per request")
    if name == "auto":
        start = first.data.lower()
        name = next((found for sign, found in _SIGNS if sign in start), "")
    if name not in FORMATS:
        raise first.error("not a known trace format", f"known: {', '.join(FORMATS)}")
    found = FORMATS[name]
    if name == "sixfold":
        found = msgspec.structs.replace(found, block=_block_tokens(path))
    return found, found.rows(chain([first], lines))


def _block_tokens(path: str) -> int:
    """The tokens of a block of sixfold's own traces, by all tokens and characters of one."""
    tokens = chars = 0
    for entry in read_entries(read_lines(path)):
        if entry.is_load and entry.chars:
            tokens += entry.input_tokens or 0
            chars += entry.chars
    block = read_header(path).block
    return max(1, round(tokens * block / chars)) if chars else FORMATS["sixfold"].block


def _csv(lines: Iterator[Line], needed: tuple[str, ...]) -> Iterator[tuple[Line, dict[str, str]]]:
    """Rows by their columns' names in small letters; columns that are not needed may lack."""
    header: list[str] = []
    for line in lines:
        fields = _fields(line)
        if not header:
            header = [name.lower() for name in fields]
            lacking = [name for name in needed if name not in header]
            if lacking:
                raise line.error(f"no column {lacking[0]!r}", f"needs: {', '.join(needed)}")
            continue
        if len(fields) != len(header):
            raise line.error(f"{len(fields)} columns, the header has {len(header)}")
        yield line, dict(zip(header, fields, strict=True))


def _fields(line: Line) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line.text()], strict=True), [])]
    except csv.Error as error:
        raise line.error(str(error)) from None


def _number(line: Line, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise line.error(f"not a number: {text[:40]!r}") from None


def _tokens(line: Line, text: str) -> int:
    number = _number(line, text)
    if not (0 <= number <= MAX_LENGTH and number == int(number)):
        raise line.error(f"not a number of tokens: {text[:40]!r}", f"0 to {MAX_LENGTH}")
    return int(number)


def _date(line: Line, text: str) -> float:
    try:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise line.error(f"not a date: {text[:40]!r}", "as 2023-11-16 18:17:03.97") from None


def _time(line: Line, seconds: float) -> float:
    if not (math.isfinite(seconds) and abs(seconds) <= MAX_TIME):
        raise line.error(f"not a time: {seconds}")
    return seconds
