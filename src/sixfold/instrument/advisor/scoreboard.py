"""Every advice that was tried, and what came of it: JSON Lines, appended, never rewritten.

Not here: trying it (validate.py), the page that shows them (tools/gen_docs.py, the explorer).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.advisor.remedies import Step
from sixfold.instrument.advisor.validate import Verdict
from sixfold.instrument.advisor.window import Setting
from sixfold.instrument.store.lines import append_lines, read_records

FORMAT = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One advice and its verdict."""

    format: int = FORMAT
    date: str
    engine: str
    engine_version: str = ""
    model: str
    workload: str
    slo: str
    symptom: str
    remedy: str
    strategy: str
    """Name of the card; empty for what is no strategy."""
    flags_before: dict[str, Setting]
    flags_after: dict[str, Setting]
    verdict: Verdict
    hardware: str = ""
    commit: str = ""
    dirty: bool = False


def entry_of(
    step: Step, verdict: Verdict, points: Sequence[Point], workload: str, slo: str
) -> Entry:
    """An entry with its provenance, from the points of the trial."""
    served = next((point for point in points if point.status == "ok"), points[0])
    return Entry(
        date=served.date,
        engine=served.engine,
        engine_version=served.engine_version,
        model=Path(served.model).name,
        workload=workload,
        slo=slo,
        symptom=step.against,
        remedy=step.remedy,
        strategy=step.strategy,
        flags_before=step.before,
        flags_after=step.changes,
        verdict=verdict,
        hardware=served.hardware,
        commit=served.commit,
        dirty=served.dirty,
    )


def append(path: Path, entries: Iterable[Entry]) -> None:
    """Add those that are new; each line is whole on disk before the next.

    A proof that is asked for again finds its runs in the store, and comes to the same entry.
    """
    known = read(path) if path.exists() else []
    append_lines(path, [entry for entry in entries if entry not in known])


def read(path: Path) -> list[Entry]:
    """All entries, in order. Raises ConfigError that names a line that is none."""
    entries = list(read_records(path, Entry))
    if any(entry.format != FORMAT for entry in entries):
        raise ConfigError(f"{path.name} is of another format", "read it with the version it is of")
    return entries


def summary(entries: Iterable[Entry]) -> dict[str, int]:
    """Verdicts by their call."""
    found = dict.fromkeys(("GAIN", "NO GAIN", "WORSE", "INCONCLUSIVE"), 0)
    for entry in entries:
        found[entry.verdict.call] += 1
    return found
