"""Turn results into a record with its provenance, under docs/results/."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sixfold.core.record import (
    Machine,
    Measure,
    Record,
    git_state,
    memory_gb,
    system,
    versions,
    write_record,
)
from sixfold.engine.kernels import cpu

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def machine() -> Machine:
    """This machine, with its limits probed now."""
    info = cpu.detect()
    return Machine(
        cpu=info.model,
        threads=info.threads,
        memory_gb=memory_gb(),
        system=system(),
        isa=info.tier,
        limits={name: round(value, 1) for name, value in cpu.probe(2.0).items()},
    )


def lines_of(path: Path) -> list[bytes]:
    """Of a run that may have been interrupted: without a line that was cut."""
    if not path.is_file():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def save(
    name: str,
    title: str,
    workload: Mapping[str, Any],
    results: dict[str, dict[str, Measure]],
    notes: str = "",
) -> Path:
    """Write docs/results/NAME.json; the path."""
    commit, dirty = git_state(ROOT)
    record = Record(
        name=name,
        title=title,
        commit=commit,
        dirty=dirty,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        machine=machine(),
        versions=versions(),
        config={},
        workload=dict(workload),
        seed=0,
        results=results,
        notes=notes,
    )
    path = RESULTS / f"{name}.json"
    write_record(record, path)
    return path
