"""Workloads from request traces: their times, lengths and sharing, with made-up contents.

Each block that a trace names becomes tokens drawn by its hash id, so equal ids are equal tokens,
different ids are different ones, and the tree of shared prefixes stays exact at any block size.
Traces without hash ids (Azure, BurstGPT) say nothing of contents: their prompts share nothing.
Every row is a session of one turn at its own time: conversations are in the blocks. A trace of
`sixfold record --keep-text` has real prompts, which are sent as they are.
Not here: the formats (formats), prompts with text but no times (files).
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.recorder.entry import rendered
from sixfold.instrument.recorder.trace_file import keeps_text
from sixfold.instrument.workloads.content import (
    MAX_LENGTH,
    Content,
    Seconds,
    Tokens,
    Units,
    checked,
    draw_units,
    make_turn,
    stream,
    units,
)
from sixfold.instrument.workloads.files import Limit
from sixfold.instrument.workloads.formats import Row, open_trace
from sixfold.instrument.workloads.holdout import half_in_time

Positive = Annotated[float, msgspec.Meta(ge=1e-6, le=1e6)]
REDRAWS = 64
_LEADING = ("tools", "system", "developer")
"""Roles that become the system prompt, as long as nothing else came before."""


class TraceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of a trace file, cut and scaled."""

    file: str
    """Path; may be a gzip file."""
    format: Literal["auto", "sixfold", "mooncake", "azure", "burstgpt", "bailian"] = "auto"
    """auto: by the file's first line."""
    first: Limit = 0
    """Only the first so many rows of the window; 0: all."""
    start: Seconds = 0.0
    """Seconds from the trace's first row at which the window begins: the new zero."""
    end: Seconds = 0.0
    """Seconds from the trace's first row at which the window ends; 0: at the last row."""
    speed: Positive = 1.0
    """Times are divided by it: 2 doubles the rate."""
    block: Tokens = 0
    """Tokens in place of each block of the trace, inputs scaled with it; 0: as in the trace."""
    input_scale: Positive = 1.0
    """Factor of inputs where the trace has no blocks."""
    output_scale: Positive = 1.0
    """Factor of outputs."""
    max_input: Tokens = 0
    """Most tokens of a prompt, after scaling; 0: no cap."""
    max_output: Tokens = 0
    """Most tokens of an answer, after scaling; 0: no cap."""
    kept: bool = True
    """Prompts whose text the trace has are sent as they are; false: made up, as all others."""
    holdout: bool = True
    """Of kept prompts, seeds below 2^30 send the earlier half; the later one warms up, and confirms
    what was tuned. Fewer than 16 are not parted. False: all, always."""
    content: Content = Content()


class _Blocks:
    """Contents by hash id, each drawn once. The whole blocks of different ids are different."""

    def __init__(self, content: Content, seed: int, size: int) -> None:
        self.content, self.seed, self.size = content, seed, size
        self.drawn: dict[int, Units] = {}
        self.taken: set[Units] = set()

    def get(self, hash_id: int) -> Units:
        """`size` units. Raises ConfigError if there are not enough different ones."""
        if hash_id not in self.drawn:
            self.drawn[hash_id] = self._draw(hash_id)
        return self.drawn[hash_id]

    def _draw(self, hash_id: int) -> Units:
        for attempt in range(REDRAWS):
            rng = stream(self.seed, "block", hash_id, attempt)
            drawn = draw_units(self.content, rng, self.size)
            if drawn not in self.taken:
                self.taken.add(drawn)
                return drawn
        raise ConfigError(
            f"too few different blocks of {self.size} for {len(self.taken)} hash ids",
            "set a larger block, or a wider range of token ids",
        )


def trace(config: TraceConfig, seed: int) -> list[Session]:
    """A session per row, in the order of time. Raises ConfigError with file and line for a wrong
    row, and for a window without any. Rows before the first one's time count as at its time.
    """
    checked(config)
    if config.end and config.end <= config.start:
        raise ConfigError(f"the window ends at {config.end} s, before its start", "raise end")
    found, rows = open_trace(config.file, config.format)
    selected = sorted(_window(config, rows), key=lambda row: row.at)
    if not selected:
        hint = "check start and end; what failed, or has no known lengths, does not count"
        raise ConfigError(f"{config.file}: no request in the window", hint)
    if config.kept and any(row.prompt for row in selected):
        selected = _from_zero(half_in_time(selected, seed, config.holdout))
    if not found.block:
        return [_unrelated(config, seed, i, row) for i, row in enumerate(selected)]
    size = units(config.content, config.block or found.block)
    blocks = _Blocks(config.content, seed, size)
    return [
        _kept(config, row)
        if config.kept and row.prompt
        else _shared(config, blocks, found.block, (i, row))
        for i, row in enumerate(selected)
    ]


def sends_text(config: TraceConfig) -> bool:
    """Whether a seed sends prompts that were kept, which no seed makes up."""
    return config.kept and config.format in ("auto", "sixfold") and keeps_text(config.file)


def _from_zero(rows: list[Row]) -> list[Row]:
    zero = min(row.at for row in rows)
    return [msgspec.structs.replace(row, at=row.at - zero) for row in rows]


def _window(config: TraceConfig, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows to send, `at` counted from the start of the window, before the speed-up."""
    zero: float | None = None
    count = 0
    for row in rows:
        zero = row.at if zero is None else zero
        at = max(0.0, row.at - zero)
        if at < config.start or (config.end and at >= config.end):
            continue
        yield msgspec.structs.replace(row, at=at - config.start)
        count += 1
        if count == config.first:
            return


def _shared(config: TraceConfig, blocks: _Blocks, block: int, item: tuple[int, Row]) -> Session:
    """The row's blocks, the last one cut; its own units where it has fewer ids than blocks."""
    number, row = item
    length = _capped(config, max(1, round(row.input * blocks.size / block)))
    drawn: list[int] = []
    for hash_id in row.hash_ids:
        if len(drawn) >= length:
            break
        drawn.extend(blocks.get(hash_id))
    if len(drawn) < length:
        own = stream(blocks.seed, "row", number)
        drawn.extend(draw_units(config.content, own, length - len(drawn)))
    turn = make_turn(config.content, tuple(drawn[:length]), _output(config, row))
    return _session(config, turn, row)


def _kept(config: TraceConfig, row: Row) -> Session:
    """The row's own text: what leads is the system prompt, one message is itself, more are one."""
    leading = 0
    while leading < len(row.prompt) and row.prompt[leading].role in _LEADING:
        leading += 1
    system = "\n".join([message.text for message in row.prompt[:leading]])
    rest = row.prompt[leading:]
    text = rest[0].text if len(rest) == 1 else rendered(rest)
    if not text:
        system, text = "", system or " "
    return _session(config, Turn(text=text, max_tokens=_output(config, row)), row, system)


def _unrelated(config: TraceConfig, seed: int, number: int, row: Row) -> Session:
    length = max(1, units(config.content, round(row.input * config.input_scale)))
    drawn = draw_units(config.content, stream(seed, "row", number), _capped(config, length))
    return _session(config, make_turn(config.content, drawn, _output(config, row)), row)


def _capped(config: TraceConfig, length: int) -> int:
    return min(length, units(config.content, config.max_input) or MAX_LENGTH, MAX_LENGTH)


def _output(config: TraceConfig, row: Row) -> int:
    output = min(round(row.output * config.output_scale), config.max_output or MAX_LENGTH)
    return min(max(1, output), MAX_LENGTH)


def _session(config: TraceConfig, turn: Turn, row: Row, system: str = "") -> Session:
    return Session(turns=(turn,), system=system, at=row.at / config.speed)
