"""How far a batch is: a line on a terminal, a line now and then elsewhere. Not here: the job."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sixfold.core.errors import ConfigError

if TYPE_CHECKING:
    from sixfold.serving.batch.ledger import Counts

WIDTH = 24
TERMINAL_SECONDS, LOG_SECONDS = 0.25, 30.0


class Progress:
    """Told of each commit. What is left is guessed from how much of the input is done."""

    def __init__(
        self, source: Path, before: "Counts", price: str, deadline: float = 0.0,
        out: TextIO = sys.stderr,
    ) -> None:  # fmt: skip
        """`before`: what earlier runs have done. `price`: dollars per hour. `deadline`: seconds
        that this run may take, 0 for any. Raises ConfigError."""
        self._plain = source.suffix not in (".gz", ".zst")
        self._size = max(1, source.stat().st_size)
        self._price = dollars(price)
        self._deadline = deadline
        self._out = out
        self._live = out.isatty()
        self._began = self._shown = time.monotonic()
        self._before = before.prompt_tokens + before.output_tokens
        self._before_seconds = before.seconds
        self._first_offset: int | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._out.write("\n")
            self._out.flush()

    def committed(self, counts: "Counts", offset: int) -> None:
        """So much is done; every line before `offset` of the plain text is."""
        now = time.monotonic()
        if self._first_offset is None:
            self._first_offset = offset
        if now - self._shown < (TERMINAL_SECONDS if self._live else LOG_SECONDS):
            return
        self._shown = now
        text = self.line(counts, offset, now - self._began)
        self._out.write(f"\r{text}\x1b[K" if self._live else f"{text}\n")
        self._out.flush()

    def line(self, counts: "Counts", offset: int, seconds: float) -> str:
        """What is shown after so many seconds of this run."""
        tokens = counts.prompt_tokens + counts.output_tokens - self._before
        parts = [f"{counts.done + counts.errors:,} lines"]
        if counts.errors:
            parts.append(f"{counts.errors:,} errors")
        parts.append(f"{tokens / max(seconds, 1e-9):,.0f} tok/s")
        if self._price:
            spent = (self._before_seconds + seconds) / 3600 * self._price
            parts.append(f"${spent:,.4f}")
        if not self._plain:
            return " · ".join(parts)
        share = min(1.0, offset / self._size)
        now_done = offset - (self._first_offset or 0)
        if now_done > 0 and seconds > 0:
            left = (self._size - offset) * seconds / now_done
            parts.append(f"{duration(left)} left")
            if self._deadline and seconds + left > self._deadline:
                parts.append(f"{duration(seconds + left - self._deadline)} over the deadline")
        bar = "#" * round(share * WIDTH)
        return f"[{bar:<{WIDTH}}] {share:4.0%} · " + " · ".join(parts)


def duration(seconds: float) -> str:
    """As 45 s, 3:20 or 2:03:20."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def dollars(price: str) -> float:
    """Per hour. Raises ConfigError."""
    try:
        value = float(price or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ConfigError(f"price is {price!r}", "dollars per hour, as in 0.40")
    return value
