"""Records as tables with their provenance, for the generated pages. Not here: the pages."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))


def record_section(name: str, heading: str) -> str:
    """One record as a table with its provenance."""
    from sixfold.core.record import read_record
    from tables import markdown

    r = read_record(RESULTS / f"{name}.json")
    limits = ", ".join(f"{k} {v:g}" for k, v in r.machine.limits.items())
    workload = ", ".join(f"{k} {v}" for k, v in r.workload.items())
    state = " (with local changes)" if r.dirty else ""
    lines = [
        f"{heading} {r.title}",
        markdown(r.results),
        f"{r.machine.cpu}, {r.machine.threads} threads, {r.machine.isa}; limits probed: {limits}. "
        f"Workload: {workload}. Commit {r.commit[:12]}{state}, {r.date}. {r.notes}".strip(),
    ]
    return "\n\n".join(lines)
