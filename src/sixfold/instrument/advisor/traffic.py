"""Signals that only real prompts tell: what they share, and what they could.

Not here: recording them (recorder/), the layout check (workloads/layout.py).
"""

from pathlib import Path

from sixfold.instrument.advisor.signals import Reading, Readings
from sixfold.instrument.recorder.report import report_trace


def of_trace(path: Path) -> Readings:
    """Of a trace of `sixfold record`. Raises ConfigError for a file that is none."""
    report = report_trace(str(path))
    found: Readings = {}
    if report.prefix_reuse is not None:
        found["shareable"] = Reading(report.prefix_reuse, "derived", f"the trace {path.name}")
    if report.layout is not None:
        found["layout_loss"] = Reading(report.layout.lost, "derived", f"the trace {path.name}")
    return found
