"""Service-level objectives: what "fast enough" means for a workload, parsed and judged.

A clause bounds one percentile of one latency. Not here: measuring, or the latencies' meaning
(metrics.py).
"""

import difflib
import re
from collections.abc import Callable, Sequence

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.metrics import RequestTrace, e2e, itl, percentile, tpot, ttft

_METRICS: dict[str, Callable[[RequestTrace], list[float]]] = {
    "ttft": lambda trace: _known(ttft(trace)),
    "tpot": lambda trace: _known(tpot(trace)),
    "itl": itl,
    "e2e": lambda trace: [e2e(trace)],
}
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3}
_CLAUSE = re.compile(r"\s*(\w+?)(?:[:_]p(\d{1,2}(?:\.\d+)?|100))?\s*<=\s*(\d*\.?\d+)\s*(\w*)\s*")


def _known(value: float | None) -> list[float]:
    return [] if value is None else [value]


class Clause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`percent` of the values of `metric` (ttft, tpot, itl, e2e) are at most `seconds`."""

    metric: str
    percent: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.metric}:p{self.percent:g}<={self.seconds:g}"

    def value(self, traces: Sequence[RequestTrace]) -> float | None:
        """The bounded percentile of a run, in seconds; None where there is nothing to measure."""
        values = [v for trace in traces if trace.ok for v in _METRICS[self.metric](trace)]
        return percentile(values, self.percent) if values else None

    def met_by(self, trace: RequestTrace) -> bool:
        """Whether one request keeps the bound: its own percentile (goodput counts these)."""
        values = _METRICS[self.metric](trace)
        return not values or percentile(values, self.percent) <= self.seconds


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clauses that must all hold."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.clauses))

    def met(self, traces: Sequence[RequestTrace]) -> bool:
        """Whether a run keeps every clause. A failed request, or no request at all, breaks it."""
        if not traces or not all(trace.ok for trace in traces):
            return False
        values = [(clause, clause.value(traces)) for clause in self.clauses]
        return all(value is None or value <= clause.seconds for clause, value in values)

    def met_by(self, trace: RequestTrace) -> bool:
        """Whether one request keeps every clause."""
        return trace.ok and all(clause.met_by(trace) for clause in self.clauses)


def parse_slo(text: str) -> Slo:
    """Read "ttft:p95<=0.5, tpot<=50ms": p50 where none is given, seconds or ms.

    Raises ConfigError that names the clause.
    """
    return Slo(tuple(_parse_clause(part) for part in text.split(",")))


def _parse_clause(text: str) -> Clause:
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"can't read the objective {text.strip()!r}", "write it as ttft:p95<=0.5 or tpot<=50ms"
        )
    metric, percent, number, unit = match.groups()
    if metric not in _METRICS or unit not in _UNITS:
        wrong, known = (metric, _METRICS) if metric not in _METRICS else (unit, _UNITS)
        near = difflib.get_close_matches(wrong, known, 1)
        choices = ", ".join(name for name in known if name)
        raise ConfigError(
            f"the objective {text.strip()!r} names {wrong!r}",
            f"did you mean {near[0]}?" if near else f"choose one of: {choices}",
        )
    return Clause(metric, float(percent or 50), float(number) * _UNITS[unit])
