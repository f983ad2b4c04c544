"""One clause of an objective: [class/]metric[:stat]op value[unit], read, printed and judged.

Values are held in base units (metric_names.py): seconds, tok/s, req/s, fractions, dollars. Not
here: joining clauses (slo.py), or what a metric means and how it is computed (metrics.py).
"""

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, cast

import msgspec

from sixfold.core import metrics
from sixfold.core.errors import ConfigError
from sixfold.core.metric_names import METRICS, NAMES, UNITS, Metric
from sixfold.core.metrics import RequestTrace

Op = Literal["<", "<=", ">", ">="]
Verdict = Literal["met", "broken", "unknown"]

_OPS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSPELT_OPS = {"==": "<= or >=", "=": "<= or >=", "=<": "<=", "=>": ">=", "<<": "<", ">>": ">"}
_STATS = {"mean": "mean", "median": "p50", "max": "max", "min": "min"}
_EXAMPLE = "write it as ttft:p95<500ms or chat/e2e:p99<=2s"

_SIDES = re.compile(r"([^<>=!~]*)([<>=!~]+)([^<>=!~]*)")
_LEFT = re.compile(r"(?:([A-Za-z0-9_.-]+)/)?([A-Za-z0-9_.]+)\s*(?::\s*(\S+))?")
_RIGHT = re.compile(r"((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([^\s0-9]\S*)?")
_PERCENTILE = re.compile(r"p([0-9]{1,3}(?:\.[0-9]{1,6})?)")
_CLASS = re.compile(r"[A-Za-z0-9_.-]*")


def _known(value: float | None) -> list[float]:
    return [] if value is None else [value]


_PER_REQUEST: dict[str, Callable[[RequestTrace], list[float]]] = {
    "ttft": lambda trace: _known(metrics.ttft(trace)),
    "tpot": lambda trace: _known(metrics.tpot(trace)),
    "itl": metrics.itl,
    "e2e": lambda trace: [metrics.e2e(trace)],
    "queue": lambda trace: _known(metrics.queue(trace)),
}


class ClauseJudgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a run did on one clause. `margin` is the room left, in base units; below 0 is too far."""

    clause: "Clause"
    verdict: Verdict
    value: float | None = None
    margin: float | None = None


class Clause(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="clause"
):
    """A bound on one number. `slo_class` limits it to requests of that class; "" is all."""

    metric: str
    stat: str
    op: Op
    bound: float
    slo_class: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for what no text could say: records come from files too."""
        metric = METRICS.get(self.metric)
        if metric is None:
            raise ValueError(f"{self.metric!r} is no metric")
        if canonical_stat(metric, self.stat) != self.stat:
            raise ValueError(f"{self.stat!r} is no statistic of {self.metric}")
        if self.op not in _OPS or not _CLASS.fullmatch(self.slo_class):
            raise ValueError(f"{self.slo_class!r} {self.op!r} is no class or comparison")
        if fault := _bound_fault(metric, self.bound):
            raise ValueError(f"{self.bound!r} {fault}")

    @property
    def key(self) -> str:
        """The name of the bounded number: "ttft:p95", "chat/ttft:p95", "output_throughput"."""
        name = f"{self.metric}:{self.stat}" if self.stat else self.metric
        return f"{self.slo_class}/{name}" if self.slo_class else name

    def __str__(self) -> str:
        return f"{self.key}{self.op}{_written(METRICS[self.metric], self.bound)}"

    def judge(self, values: Mapping[str, float]) -> ClauseJudgement:
        """Compare the value under `key`. Absent, NaN and infinite ones are unknown, never met."""
        value = values.get(self.key)
        if value is None or not math.isfinite(value):
            return ClauseJudgement(self, "unknown")
        verdict: Verdict = "met" if _OPS[self.op](value, self.bound) else "broken"
        room = self.bound - value if self.op in ("<", "<=") else value - self.bound
        return ClauseJudgement(self, verdict, value, room)

    def kept_by(self, trace: RequestTrace, slo_class: str) -> bool | None:
        """Whether one request keeps the bound by itself; None where that can't be asked of it.

        That is so for another class's clause, a run's metric, and a quantity the request lacks.
        """
        if self.metric not in _PER_REQUEST or self.slo_class not in ("", slo_class):
            return None
        values = _PER_REQUEST[self.metric](trace)
        return _OPS[self.op](statistic(values, self.stat), self.bound) if values else None


def statistic(values: Sequence[float], stat: str) -> float:
    """The mean, max, min or percentile ("p95") of at least one value."""
    if stat == "mean":
        return math.fsum(values) / len(values)
    if stat in ("max", "min"):
        return max(values) if stat == "max" else min(values)
    return metrics.percentile(values, float(stat.removeprefix("p")))


def canonical_stat(metric: Metric, stat: str) -> str | None:
    """The one spelling of a statistic of `metric` ("" asks for its default); None: it has none."""
    if not metric.has_stats:
        return "" if stat == "" else None
    if stat in ("", *_STATS):
        return _STATS[stat or "mean"]
    match = _PERCENTILE.fullmatch(stat)
    if match is None or float(match[1]) > 100:
        return None
    return "p" + f"{float(match[1]):.6f}".rstrip("0").rstrip(".")


def refusal(clause: str, why: str, hint: str) -> ConfigError:
    """The error for a clause that says nothing that can be judged."""
    return ConfigError(f"can't read the objective {clause.strip()!r}: {why}", hint)


def nearest(wrong: str, choices: Iterable[str]) -> str:
    """A hint: the choice most like `wrong`, or all of them."""
    known = [choice for choice in choices if choice]
    near = difflib.get_close_matches(wrong.lower(), known, 1)
    return f"did you mean {near[0]}?" if near else f"choose one of: {', '.join(known)}"


def read_clause(text: str) -> Clause:
    """Read one clause. Raises ConfigError that names it and says what to write instead."""
    sides = _SIDES.fullmatch(text.strip())
    if sides is None:
        raise refusal(text, "it is not one comparison", _EXAMPLE)
    left, op, right = sides.groups()
    if op not in _OPS:
        near = _MISSPELT_OPS.get(op)
        hint = f"did you mean {near}?" if near else f"choose one of: {', '.join(_OPS)}"
        raise refusal(text, f"{op!r} is no comparison", hint)
    slo_class, metric, stat = _read_left(text, left.strip())
    return Clause(metric.name, stat, cast(Op, op), _read_bound(text, metric, right), slo_class)


def _read_left(text: str, left: str) -> tuple[str, Metric, str]:
    match = _LEFT.fullmatch(left)
    if match is None:
        raise refusal(text, "it names no metric", _EXAMPLE)
    slo_class, name, stat = (part or "" for part in match.groups())
    if name not in NAMES and not stat:
        head, _, tail = name.rpartition("_")
        name, stat = (head, tail) if head in NAMES else (name, "")
    if name not in NAMES:
        raise refusal(text, f"{name!r} is no metric", nearest(name, NAMES))
    return slo_class, NAMES[name], _read_stat(text, NAMES[name], stat)


def _read_stat(text: str, metric: Metric, stat: str) -> str:
    read = canonical_stat(metric, stat)
    if read is None and not metric.has_stats:
        raise refusal(text, f"{metric.name} has no {stat!r}", f"write {metric.name} alone")
    if read is None:
        hint = nearest(stat, (*_STATS, "p50", "p90", "p95", "p99", "p99.9"))
        raise refusal(text, f"{stat!r} is no statistic, or not in p0 to p100", hint)
    return read


def _read_bound(text: str, metric: Metric, right: str) -> float:
    match = _RIGHT.fullmatch(right.strip())
    if match is None:
        raise refusal(text, f"{right.strip()!r} is no number of 0 or more", _EXAMPLE)
    number, unit = match[1], match[2] or ""
    units = UNITS[metric.kind]
    if unit not in units:
        hint = nearest(unit, units) if any(units) else "write the number alone"
        raise refusal(text, f"{unit!r} is no unit of {metric.name}", hint)
    bound = _scaled(number, units[unit])
    if fault := _bound_fault(metric, bound):
        hint = "write a share as 0.01 or 1%" if metric.kind == "ratio" else _EXAMPLE
        raise refusal(text, f"{right.strip()!r} {fault}", hint)
    return bound


def _scaled(number: str, scale: Decimal) -> float:
    """`number` times `scale`, rounded once, so that 35ms and 0.035s are the same float."""
    rough = float(number)
    # Decimal refuses exponents far outside a float's; those are 0 or infinite here.
    return float(Decimal(number) * scale) if rough and math.isfinite(rough) else rough


def _bound_fault(metric: Metric, bound: float) -> str:
    if not math.isfinite(bound) or bound < 0:
        return "is no finite number of 0 or more"
    # A share above 1 bounds nothing: 5 was surely meant as 5%.
    return "is more than the whole" if metric.kind == "ratio" and bound > 1 else ""


def _written(metric: Metric, bound: float) -> str:
    """The bound in the unit that people use, exactly: reading it gives the same float."""
    unit = {"ratio": "%", "time": "ms" if bound < 1 else "s"}.get(metric.kind, metric.unit)
    number = (Decimal(repr(abs(bound))) / UNITS[metric.kind][unit]).normalize()
    plain = -7 < number.adjusted() < 16
    return f"{number:f}{unit}" if plain else f"{number}{unit}"
