"""The input, window by window: read, parsed and registered ahead of the work.

The first window is small, so that the first result comes soon; later ones are large, so that what
belongs together meets. Not here: running tasks (runner.py).
"""

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sixfold.serving.batch.ledger import Ledger, Todo
from sixfold.serving.batch.lines import Bad, Defaults, Task, parse_line
from sixfold.serving.batch.reader import LineReader, Place

FIRST, LATER = 64, 4096
"""Lines of the first window and of the largest: each is four times the one before."""

MAX_BYTES = 32 << 20
"""Of a window's lines."""


@dataclass(slots=True)
class Window:
    """Lines that are known and not done; `left` of them are not committed."""

    todo: Todo
    start: Place
    end: Place
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.todo.tasks) + len(self.todo.answered) + len(self.todo.bad)


class Windows:
    """Reads ahead of the work, in another thread than it."""

    def __init__(self, reader: LineReader, ledger: Ledger, defaults: Defaults) -> None:
        self._reader = reader
        self._ledger = ledger
        self._defaults = defaults
        self._lines = reader.lines()
        self._place = ledger.frontier
        self._sizes: Iterator[int] = itertools.chain(
            itertools.takewhile(lambda n: n < LATER, (FIRST * 4**i for i in itertools.count())),
            itertools.repeat(LATER),
        )

    def next(self) -> Window | None:
        """The next window with something to do; None at the end of the input.

        Raises SixfoldError where the input can't be read, sqlite3.Error.
        """
        while True:
            items, most, size = [], next(self._sizes), 0
            start = self._place
            for number, data, end in self._lines:
                self._place = Place(number, end)
                item = self._parse(number, data)
                if item is not None:
                    items.append(item)
                    size += item.size
                if len(items) >= most or size >= MAX_BYTES:
                    break
            if not items:
                return None
            window = Window(self._ledger.register(items), start, self._place)
            if window.left:
                return window

    def _parse(self, number: int, data: bytes | None) -> Task | Bad | None:
        if data is None:
            return Bad(line=number, code="line_too_long", message="the line is too long to read")
        return parse_line(number, data, self._defaults) if data.strip() else None


class Frontier:
    """How far everything is committed."""

    def __init__(self, start: Place) -> None:
        self.place = start
        self._open: deque[Window] = deque()

    def add(self, window: Window) -> None:
        """It is being worked on."""
        self._open.append(window)

    def after(self, done: dict[int, int]) -> Place:
        """The frontier once so many lines of windows, by `id`, are committed, too."""
        place = self.place
        for window in self._open:
            if window.left > done.get(id(window), 0):
                break
            place = window.end
        return place

    def committed(self, done: dict[int, int]) -> None:
        """They are."""
        for window in self._open:
            window.left -= done.get(id(window), 0)
        while self._open and self._open[0].left == 0:
            self.place = self._open.popleft().end
