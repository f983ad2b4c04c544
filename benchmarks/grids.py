"""Recorded runs in a slim form: gzip, JSON Lines, a header and one line a run.

Holds what scoring a search needs and no more, so that whole grids are small enough to be committed.
Not here: making them (record_grid.py), scoring (replay.py, power.py).
"""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point, Status
from sixfold.core.record import Machine
from sixfold.core.slo import Slo, parse_slo

FORMAT = 1
MAX_BYTES = 100_000
"""A file beyond this does not belong into a repository."""
MAX_PLAIN = 50_000_000
DIGITS = 6
"""Significant digits of a value: far below the noise."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all runs of a file share."""

    name: str
    format: int = FORMAT
    date: str
    """When the first run began."""
    commit: str
    dirty: bool
    machine: Machine
    versions: dict[str, str]
    engine: str
    engine_version: str
    model: str
    workload: dict[str, Any]
    load: dict[str, Any]
    slo: str
    """The objective as it is written; "" for none."""
    objective: str
    seed: int
    repeats: int = 0
    """Of the grid; runs with a higher number are of the best few only. 0: all are of the grid."""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run, in the order in which they were made."""

    config: dict[str, bool | int | float | str]
    repeat: int
    status: Status = "ok"
    values: dict[str, float] = {}


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A file's content."""

    header: Header
    runs: tuple[Run, ...]

    @property
    def slo(self) -> Slo | None:
        """The objective of the runs."""
        return parse_slo(self.header.slo) if self.header.slo else None

    def point(self, run: Run) -> Point:
        """A run as a point, as far as it is known."""
        head = self.header
        return Point(
            id=f"{head.name}-{run.repeat}-{sorted(run.config.items())!r}",
            study=head.name,
            date=head.date,
            status=run.status,
            reason="" if run.status == "ok" else run.status,
            engine=head.engine,
            model=head.model,
            config=run.config,
            repeat=run.repeat,
            values=run.values,
        )


def slim(
    name: str, points: Sequence[Point], slo: Slo | None, objective: str, repeats: int = 0
) -> Recorded:
    """What of measured points is kept: the values of the objective and of the SLO's keys."""
    served = next((point for point in points if point.status == "ok"), None)
    if served is None or served.machine is None:
        raise ConfigError("no run was served", "see the servers' logs")
    keys = dict.fromkeys((objective, *(slo.keys() if slo else ())))
    header = Header(
        name=name,
        date=min(point.date for point in points),
        commit=served.commit,
        dirty=any(point.dirty for point in points),
        machine=served.machine,
        versions=served.versions,
        engine=served.engine,
        engine_version=served.engine_version,
        model=Path(served.model).name,
        workload=served.workload,
        load=served.load,
        slo=str(slo or ""),
        objective=objective,
        seed=min(point.seed for point in points),
        repeats=repeats,
    )
    runs = tuple(
        Run(
            config={key: _plain(value) for key, value in point.config.items()},
            repeat=point.repeat,
            status=point.status,
            values={key: _rounded(point.values[key]) for key in keys if key in point.values},
        )
        for point in points
    )
    return Recorded(header=header, runs=runs)


def write(recorded: Recorded, path: Path) -> int:
    """Write a file, whole or not at all; its bytes. Raises ConfigError beyond MAX_BYTES."""
    lines = [recorded.header, *recorded.runs]
    plain = b"\n".join(map(msgspec.json.encode, lines)) + b"\n"
    packed = gzip.compress(plain, 9, mtime=0)
    if len(packed) > MAX_BYTES:
        raise ConfigError(f"{path.name} has {len(packed)} bytes", "record fewer configurations")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(packed)
    partial.replace(path)
    return len(packed)


def read(path: Path) -> Recorded:
    """Read what `write` wrote. Raises ConfigError that names the file."""
    try:
        with gzip.open(path, "rb") as file:
            first, *rest = file.read(MAX_PLAIN).splitlines()
        header = msgspec.json.decode(first, type=Header)
        runs = tuple(msgspec.json.decode(line, type=Run) for line in rest)
    except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path.name} is no recorded grid: {error}", "record it again") from error
    if header.format != FORMAT:
        raise ConfigError(f"{path.name} has format {header.format}", "record it again")
    return Recorded(header=header, runs=runs)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _plain(value: bool | int | float | str) -> bool | int | float | str:
    """Paths are a machine's own: only their names are kept."""
    return Path(value).name if isinstance(value, str) and "/" in value else value
