"""The grid language of sweeps: `k=[1,2];n=range(1,9,2);tp*dp=[(1,4),(2,2)]` -> configurations.

Parameters are separated by `;` and multiplied; names joined by `*` go together. A value is a
number, true, false, a quoted text, or a bare word. Read by hand, never evaluated. Not here: what
the names mean (flags.py).
"""

import re
from itertools import product

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.spec import Scalar

MAX_POINTS = 100_000
"""A grid beyond this is a mistake."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_INT = re.compile(r"[+-]?\d+\Z")
_FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?\Z")
_WORD = re.compile(r"[^\s,;()\[\]'\"]+")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'")
_WORDS: dict[str, Scalar] = {"true": True, "false": False}

Row = tuple[Scalar, ...]


Axis = tuple[tuple[str, ...], list[Row]]
"""Names that go together, and their rows of values."""


def parse_grid(text: str) -> list[dict[str, Scalar]]:
    """All configurations, the last parameter changing fastest. Raises ConfigError with a position.

    An empty text is one configuration without settings.
    """
    axes = parse_axes(text)
    combinations = product(*(rows for _, rows in axes))
    return [_joined([names for names, _ in axes], rows) for rows in combinations]


def parse_axes(text: str) -> list[Axis]:
    """The parameters as they are written, not multiplied. Raises ConfigError as `parse_grid`."""
    reader = _Reader(text)
    axes: list[Axis] = []
    size = 1
    while not reader.at_end():
        if reader.take(";"):
            continue
        axes.append(_parameter(reader, {name for names, _ in axes for name in names}))
        size *= len(axes[-1][1])
        if size > MAX_POINTS:
            raise ConfigError(f"the grid has over {MAX_POINTS} points", "split or thin it")
        if not reader.at_end():
            reader.expect(";")
    return axes


def format_scalar(value: Scalar) -> str:
    """The value as the grid language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _joined(names: list[tuple[str, ...]], rows: tuple[Row, ...]) -> dict[str, Scalar]:
    pairs = (zip(n, row, strict=True) for n, row in zip(names, rows, strict=True))
    return {name: value for group in pairs for name, value in group}


class _Reader:
    """A text and how far it was read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, what: str) -> ConfigError:
        """An error at this place; positions count from 1."""
        return ConfigError(
            f"bad grid at position {self.at + 1}: {what}: {self.text[self.at : self.at + 20]!r}",
            "such as: max_num_seqs=[8,16];n=range(1,9,2);tp*dp=[(1,4),(2,2)]",
        )

    def blank(self) -> None:
        """Pass over blanks."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def at_end(self) -> bool:
        """True when only blanks are left."""
        self.blank()
        return self.at == len(self.text)

    def take(self, token: str) -> bool:
        """Read the token if it comes next."""
        self.blank()
        found = self.text.startswith(token, self.at)
        self.at += len(token) if found else 0
        return found

    def expect(self, token: str) -> None:
        """Read the token, or raise."""
        if not self.take(token):
            raise self.fail(f"expected {token!r}")

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what the pattern matches here."""
        self.blank()
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found


def _parameter(reader: _Reader, seen: set[str]) -> Axis:
    names = [_name(reader, seen)]
    while reader.take("*"):
        names.append(_name(reader, seen | set(names)))
    reader.expect("=")
    if len(names) == 1:
        return tuple(names), [(value,) for value in _values(reader)]
    reader.expect("[")
    rows = [_row(reader, len(names))]
    while reader.take(","):
        rows.append(_row(reader, len(names)))
    reader.expect("]")
    return tuple(names), rows


def _name(reader: _Reader, seen: set[str]) -> str:
    found = reader.match(_NAME)
    if found is None:
        raise reader.fail("expected a name")
    if found[0] in seen:
        reader.at = found.start()
        raise reader.fail("a name that is there already")
    return found[0]


def _values(reader: _Reader) -> list[Scalar]:
    begin = reader.at
    if reader.take("range") and reader.take("("):
        return _range(reader)
    reader.at = begin
    if not reader.take("["):
        return [_scalar(reader)]
    return _sequence(reader, "]")


def _row(reader: _Reader, width: int) -> Row:
    reader.blank()
    begin = reader.at
    reader.expect("(")
    row = tuple(_sequence(reader, ")"))
    if len(row) != width:
        reader.at = begin
        raise reader.fail(f"expected {width} values, found {len(row)}")
    return row


def _sequence(reader: _Reader, end: str) -> list[Scalar]:
    values = [_scalar(reader)]
    while reader.take(","):
        values.append(_scalar(reader))
    reader.expect(end)
    return values


def _range(reader: _Reader) -> list[Scalar]:
    """range(stop), range(start, stop) or range(start, stop, step), as Python's."""
    begin = reader.at
    parts = _sequence(reader, ")")
    whole = [p for p in parts if isinstance(p, int) and not isinstance(p, bool)]
    if len(whole) != len(parts) or len(whole) > 3 or (len(whole) == 3 and whole[2] == 0):
        reader.at = begin
        raise reader.fail("range takes 1 to 3 whole numbers, and a step other than 0")
    values = range(*whole)
    if not 0 < len(values) <= MAX_POINTS:
        reader.at = begin
        raise reader.fail("range with no value, or too many")
    return list(values)


def _scalar(reader: _Reader) -> Scalar:
    quoted = reader.match(_QUOTED)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2])
    found = reader.match(_WORD)
    if found is None:
        raise reader.fail("expected a value")
    word = found[0]
    if _INT.match(word) and len(word) < 20:
        return int(word)
    if _FLOAT.match(word):
        return float(word)
    return _WORDS.get(word.lower(), word)
