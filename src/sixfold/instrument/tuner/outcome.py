"""What a study's points say: each configuration's repeats together, and what each clause costs.

Pure. Not here: running (runner.py), choosing (search.py), comparing two of them (verdict.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import msgspec

from sixfold.core.metric_names import METRICS
from sixfold.core.point import Point
from sixfold.core.slo import Slo, all_of
from sixfold.core.slo_clause import Clause, ClauseJudgement
from sixfold.instrument.tuner.quality import failed
from sixfold.instrument.tuner.trial import TrialResult


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration and its runs."""

    key: str
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


def tried(points: Iterable[Point]) -> list[Tried]:
    """Points by configuration, in the order of their first runs."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.key, []).append(point)
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
    """What one clause costs: the objective's best with it, and without it."""

    clause: Clause
    with_it: float
    without_it: float

    @property
    def share(self) -> float:
        """The part of the objective that is given up, 0 to 1."""
        return (
            abs(self.without_it - self.with_it) / abs(self.without_it) if self.without_it else 0.0
        )


def prices(candidates: Sequence[Tried], slo: Slo | None, objective: str) -> list[Price]:
    """The price of each clause of an SLO whose clauses must all hold; none where none is feasible.

    Goodput counts requests that keep the clauses, so a clause's price is told in throughput.
    """
    winner = best(candidates, slo, objective)
    if slo is None or winner is None or len(slo.clauses) < 1:
        return []
    found = []
    for clause in slo.clauses:
        rest = [other for other in slo.clauses if other != clause]
        looser = Slo(all_of(rest)) if rest else None
        without = best(candidates, looser, objective)
        assert without is not None, "what meets all clauses meets fewer"
        price = Price(
            clause=clause,
            with_it=winner.values[objective],
            without_it=without.values[objective],
        )
        found.append(price)
    return found
