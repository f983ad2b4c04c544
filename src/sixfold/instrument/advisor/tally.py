"""A scoreboard's entries as rows to show, and what came of each strategy.

An entry that is there twice is one trial: a proof that goes on where it stopped tells it again.
Gains are told so that above 0 is better, whatever the metric's direction. Not here: the file
(scoreboard.py), the pages (tools/scoreboard_page.py, explorer).
"""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import get_args

import msgspec

from sixfold.instrument.advisor.scoreboard import Entry
from sixfold.instrument.advisor.symptoms import table
from sixfold.instrument.advisor.window import Setting
from sixfold.instrument.tuner.outcome import lower_is_better
from sixfold.instrument.tuner.verdict import Call

CALLS: tuple[Call, ...] = get_args(Call)
DEFAULT = "default"
"""What a flag was set to, where it was not set."""


class Change(msgspec.Struct, frozen=True):
    """One flag, before and after."""

    name: str
    before: str
    after: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One trial in words."""

    strategy: str
    """Name of the card; what was done, where it is no strategy."""
    engine: str
    model: str
    hardware: str
    workload: str
    slo: str
    symptom: str
    """Its title; its id where the table has no such symptom."""
    flags: tuple[Change, ...]
    metric: str
    gain: float | None
    """0.2 is 20 % better; None where there is no ratio."""
    low: float | None
    high: float | None
    pairs: int
    call: Call
    why: str
    date: str
    commit: str
    dirty: bool


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one strategy."""

    strategy: str
    calls: dict[Call, int]
    """Every call, also those that were never made."""
    gains: tuple[float, ...]
    """Of the trials that have one, the lowest first."""

    @property
    def advised(self) -> int:
        """Trials of it."""
        return sum(self.calls.values())

    @property
    def median(self) -> float | None:
        """Of the gains; None without any."""
        return median(self.gains) if self.gains else None


def rows(entries: Iterable[Entry]) -> tuple[Row, ...]:
    """Every trial once, in the order in which they were made."""
    once = {msgspec.json.encode(entry, order="deterministic"): entry for entry in entries}
    return tuple(map(_row, once.values()))


def tallies(shown: Sequence[Row]) -> tuple[Tally, ...]:
    """Each strategy, the one most often advised first."""
    found: dict[str, list[Row]] = {}
    for row in shown:
        found.setdefault(row.strategy, []).append(row)
    told = [
        Tally(
            strategy=strategy,
            calls=calls(own),
            gains=tuple(sorted(row.gain for row in own if row.gain is not None)),
        )
        for strategy, own in found.items()
    ]
    return tuple(sorted(told, key=lambda one: (-one.advised, one.strategy)))


def calls(shown: Iterable[Row]) -> dict[Call, int]:
    """How often each call was made."""
    found = dict.fromkeys(CALLS, 0)
    for row in shown:
        found[row.call] += 1
    return found


def gain(ratio: float | None, metric: str) -> float | None:
    """Of a ratio after over before; None where it can't be told."""
    if ratio is None or ratio <= 0:
        return None
    told = 1 / ratio - 1 if lower_is_better(metric) else ratio - 1
    return told if math.isfinite(told) else None


def _row(entry: Entry) -> Row:
    verdict = entry.verdict
    bounds = [gain(ratio, verdict.metric) for ratio in (verdict.low, verdict.high)]
    if lower_is_better(verdict.metric):
        bounds.reverse()
    titles = {symptom.id: symptom.title for symptom in table().symptoms}
    return Row(
        strategy=entry.strategy or _done(entry.remedy),
        engine=f"{entry.engine} {entry.engine_version}".strip(),
        model=entry.model,
        hardware=entry.hardware,
        workload=entry.workload,
        slo=entry.slo,
        symptom=titles.get(entry.symptom, entry.symptom),
        flags=tuple(_changes(entry.flags_before, entry.flags_after)),
        metric=verdict.metric,
        gain=gain(verdict.ratio, verdict.metric),
        low=bounds[0],
        high=bounds[1],
        pairs=verdict.pairs,
        call=verdict.call,
        why=verdict.why,
        date=entry.date,
        commit=entry.commit,
        dirty=entry.dirty,
    )


def _done(remedy: str) -> str:
    known = table().remedies.get(remedy)
    return known.do if known else remedy or "not named"


def _changes(before: dict[str, Setting], after: dict[str, Setting]) -> list[Change]:
    return [
        Change(name, _text(before[name]) if name in before else DEFAULT, _text(value))
        for name, value in after.items()
    ]


def _text(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
