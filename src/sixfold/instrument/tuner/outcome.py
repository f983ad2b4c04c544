"""What a study's points say: each configuration's repeats together, and what each clause costs.

Pure. Not here: running (runner.py), choosing (search.py), comparing two of them (verdict.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import msgspec

from sixfold.core.metric_names import METRICS
from sixfold.core.point import Point
from sixfold.core.slo import AnyOf, Expression, Slo, all_of, any_of
from sixfold.core.slo_clause import Clause, ClauseJudgement
from sixfold.instrument.tuner.quality import failed
from sixfold.instrument.tuner.trial import TrialResult


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration and its runs."""

    key: str
    """Of the configuration; see `config_key`."""
    points: tuple[Point, ...]

    @property
    def values(self) -> dict[str, float]:
        """Means over the runs, of the metrics that all of them have."""
        rows = [point.values for point in self.points]
        shared = set.intersection(*(set(row) for row in rows))
        return {name: fmean(row[name] for row in rows) for name in sorted(shared)}

    @property
    def failed(self) -> bool:
        """A run of it did not start, ran out of memory, timed out or was not served."""
        return any(point.status != "ok" for point in self.points)

    @property
    def worse(self) -> str:
        """Why its lossy settings did not pass the quality check; empty if they did, or need not."""
        return next(filter(None, (failed(point.telemetry) for point in self.points)), "")


def config_key(config: Mapping[str, Any]) -> str:
    """Equal for equal flags, in any order.

    Within a study that is all that tells runs apart: what did not start has no version to go by.
    """
    return repr(sorted(config.items()))


def tried(points: Iterable[Point]) -> list[Tried]:
    """A study's points of one load by configuration, in the order of their first runs."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(config_key(point.config), []).append(point)
    return [Tried(key=key, points=tuple(group)) for key, group in groups.items()]


def feasible(one: Tried, slo: Slo | None) -> bool:
    """Whether it ran every time, says what the baseline says, and the means keep every objective.

    Unknown is no.
    """
    return not one.failed and not one.worse and (slo is None or slo.judge(one.values).met)


def violation(values: Mapping[str, float], slo: Slo | None) -> float:
    """How far a run is from its objectives: the sum of relative excesses.

    A clause that was not measured counts 1. Where all clauses are met it is below 0 by the room
    left: the smallest relative margin. 0 where the objective is met without all of them.
    """
    if slo is None:
        return 0.0
    judged = slo.judge(values)
    if judged.met:
        return -_room(judged.clauses)
    total = 0.0
    for one in judged.clauses:
        if one.verdict == "unknown":
            total += 1.0
        elif one.verdict == "broken" and one.margin is not None:
            total += -one.margin / max(abs(one.clause.bound), 1e-9)
    return max(total, 1e-6)


def _room(clauses: Sequence[ClauseJudgement]) -> float:
    if any(one.verdict != "met" or one.margin is None for one in clauses):
        return 0.0
    return min((one.margin or 0.0) / max(abs(one.clause.bound), 1e-9) for one in clauses)


def trial_result(point: Point, slo: Slo | None, objective: str) -> TrialResult:
    """A point as a search sees it: something to maximise, and how far it is from feasible."""
    value = point.values.get(objective)
    if point.status != "ok" or value is None:
        return TrialResult(failure=point.reason or f"{objective} was not measured")
    if worse := failed(point.telemetry):
        return TrialResult(failure=worse)
    score = 1 / max(value, 1e-9) if lower_is_better(objective) else value
    missed = violation(point.values, slo)
    if score <= 0:
        return TrialResult(violation=missed if missed > 0 else 1.0)
    return TrialResult(score=score, violation=missed)


def best(candidates: Sequence[Tried], slo: Slo | None, objective: str) -> Tried | None:
    """The feasible one with the best mean of `objective`; None if none is feasible."""
    sign = -1.0 if lower_is_better(objective) else 1.0
    able = [one for one in candidates if feasible(one, slo) and objective in one.values]
    return max(able, key=lambda one: sign * one.values[objective], default=None)


def lower_is_better(key: str) -> bool:
    """Of a metric's key, such as "ttft:p95"."""
    metric = METRICS.get(key.rpartition("/")[2].partition(":")[0])
    return metric is not None and metric.lower_is_better


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one clause costs: the best of a metric with it, and without it."""

    clause: Clause
    metric: str
    """The key that it is told in."""
    with_it: float
    without_it: float

    @property
    def share(self) -> float:
        """The part of the metric that is given up, 0 to 1."""
        return (
            abs(self.without_it - self.with_it) / abs(self.without_it) if self.without_it else 0.0
        )


def prices(candidates: Sequence[Tried], slo: Slo | None, objective: str) -> list[Price]:
    """The price of each clause of an SLO; none where no configuration meets it.

    Without a clause means that it is waived, as if it were met: in `a or b`, then, the whole is.
    """
    if slo is None or best(candidates, slo, objective) is None:
        return []
    metric = priced_in(objective, candidates)
    within = best(candidates, slo, metric)
    found = []
    for clause in dict.fromkeys(slo.clauses) if within is not None else ():
        beyond = best(candidates, waived(slo, clause), metric)
        assert within is not None and beyond is not None, "what meets more clauses meets fewer"
        price = Price(
            clause=clause,
            metric=metric,
            with_it=within.values[metric],
            without_it=beyond.values[metric],
        )
        found.append(price)
    return found


def priced_in(objective: str, candidates: Sequence[Tried]) -> str:
    """The metric that clauses are priced in: the objective, but throughput in goodput's place.

    Goodput counts what keeps all clauses, also one that is waived, and so knows no price of it.
    """
    group, slash, name = objective.rpartition("/")
    if name != "goodput":
        return objective
    tokens, requests = (f"{group}{slash}{m}" for m in ("output_throughput", "request_throughput"))
    return tokens if any(tokens in one.values for one in candidates) else requests


def waived(slo: Slo, clause: Clause) -> Slo | None:
    """The objective where this clause always holds; None: then all of it does."""
    left = _waived(slo.expression, clause)
    return None if left is None else Slo(left)


def _waived(expression: Expression, clause: Clause) -> "Expression | None":
    if isinstance(expression, Clause):
        return None if expression == clause else expression
    parts = [_waived(part, clause) for part in expression.parts]
    left = [part for part in parts if part is not None]
    if isinstance(expression, AnyOf):
        return any_of(left) if len(left) == len(parts) else None
    return all_of(left) if left else None
