"""Does the remedy help? Pairs of runs, before and after, in turn, until the call is made.

The server before and the server with the remedy are started in turn under the user's workload and
objective; calls and their errors are the tuner's (tuner/verdict.py). Not here: what is proposed
(remedies.py), where verdicts are kept (scoreboard.py).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.core.slo import Slo
from sixfold.instrument.advisor.remedies import Step
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.measure import Job
from sixfold.instrument.tuner.outcome import lower_is_better
from sixfold.instrument.tuner.runner import PlannedRun
from sixfold.instrument.tuner.verdict import (
    Call,
    CallRules,
    Comparison,
    Look,
    compare,
    pair_order,
)

GOODPUT = "goodput"
RULES = CallRules(looks=(
    Look(3, 0.005), Look(4, 0.005), Look(6, 0.01), Look(12, 0.01), Look(20, 0.01),
))  # fmt: skip
"""A clear effect takes 3 pairs; a tenth in runs that differ by a tenth takes 20."""
COUNTABLE = 10
"""Requests that must meet the objective in every run, for their number to be compared."""
FIRST_SEED = 1 << 20
"""Prompts of a trial are none that the diagnosis has seen."""


class Runs(Protocol):
    """What makes a run (tuner/runner.py)."""

    def run(self, trial: PlannedRun, job: Job) -> Point:
        """The point of a run; failures are points."""
        ...


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a trial."""

    call: Call
    metric: str
    """What was compared: goodput, or the latency that breaks the objective."""
    ratio: float | None
    """After over before, of that metric; None where one of them was 0."""
    low: float | None = None
    high: float | None = None
    pairs: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    why: str = ""
    """Where the call needs words."""

    @property
    def gain(self) -> float | None:
        """As people say it: 0.2 is 20 % better, whatever the metric's direction."""
        if self.ratio is None:
            return None
        return 1 / self.ratio - 1 if lower_is_better(self.metric) else self.ratio - 1


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried."""

    name: str
    spec: EngineSpec
    """As it is now."""
    step: Step
    job: Job
    rules: CallRules = RULES
    seed: int = 0

    @property
    def changed(self) -> EngineSpec:
        """With the remedy. Raises ConfigError for a remedy without a flag to set."""
        if not self.step.changes:
            raise ConfigError(f"{self.step.do}: there is no flag to try", "try it by hand")
        flags: dict[str, Scalar] = {**self.spec.flags, **self.step.changes}
        return msgspec.structs.replace(self.spec, flags=flags)


def prove(
    trial: Trial, runner: Runs, tell: Callable[[str, Point], None], kept: Mapping[str, Point]
) -> tuple[Verdict, tuple[Point, ...]]:
    """Run pairs until the call is final; the verdict and all points in the order of running.

    `kept`: points by id that a run before has made: they are not run again.
    """
    slo = trial.job.slo
    if slo is None:
        raise ConfigError("a trial needs an objective", "give --slo")
    changed = trial.changed
    before: list[Point] = []
    after: list[Point] = []
    points: list[Point] = []
    order = pair_order(trial.rules.last, trial.seed)
    for number, changed_first in enumerate(order):
        sides = [(after, changed), (before, trial.spec)]
        for side, spec in sides if changed_first else sides[::-1]:
            point = _run(trial, spec, number, runner, kept)
            side.append(point)
            points.append(point)
            tell("after" if side is after else "before", point)
        verdict = judged(before, after, slo, trial.rules)
        if verdict is not None and (verdict.call != "INCONCLUSIVE"):
            return verdict, tuple(points)
    verdict = judged(before, after, slo, trial.rules)
    assert verdict is not None
    return verdict, tuple(points)


def _run(
    trial: Trial, spec: EngineSpec, number: int, runner: Runs, kept: Mapping[str, Point]
) -> Point:
    planned = PlannedRun(study=trial.name, spec=spec, repeat=number)
    seed = trial.job.seed + FIRST_SEED + number
    job = msgspec.structs.replace(trial.job, seed=seed)
    return kept.get(planned.id(job)) or runner.run(planned, job)


def judged(
    before: Sequence[Point], after: Sequence[Point], slo: Slo, rules: CallRules
) -> Verdict | None:
    """The verdict on pairs so far; None while there are too few for any look."""
    pairs = min(len(before), len(after))
    if pairs < min(look.pairs for look in rules.looks):
        return None
    if lost := _lost(before[:pairs], after[:pairs]):
        return lost
    metric = metric_of(before[:pairs], after[:pairs], slo)
    old = [point.values.get(metric, 0.0) for point in before[:pairs]]
    new = [point.values.get(metric, 0.0) for point in after[:pairs]]
    if min(*old, *new) <= 0:
        return _without_ratio(metric, old, new)
    found = compare(old, new, lower_is_better(metric), rules)
    return _verdict(metric, old, new, found)


def metric_of(before: Sequence[Point], after: Sequence[Point], slo: Slo) -> str:
    """Goodput where every run had enough; else the latency furthest over its limit before.

    A count under `COUNTABLE` is mostly luck: of 5 good requests the next run has 3 or 7.
    """
    if all(_good_requests(point) >= COUNTABLE for point in (*before, *after)):
        return GOODPUT
    excess: dict[str, float] = {}
    for clause in slo.clauses:
        values = [point.values.get(clause.key) for point in before]
        known = [value for value in values if value is not None]
        if clause.op in ("<", "<=") and clause.bound > 0 and len(known) == len(values):
            excess[clause.key] = sum(known) / len(known) / clause.bound
    everywhere = [
        key for key in excess if all(point.values.get(key, 0.0) > 0 for point in (*before, *after))
    ]
    return max(everywhere, key=lambda key: excess[key], default=GOODPUT)


def _good_requests(point: Point) -> float:
    """How many met the objective; from other tools' records, that tell no time, any is enough."""
    return point.values.get(GOODPUT, 0.0) * point.values.get("duration", math.inf)


def _lost(before: Sequence[Point], after: Sequence[Point]) -> Verdict | None:
    """A side that failed tells without numbers."""
    failed = [sum(point.status != "ok" for point in side) for side in (before, after)]
    if not any(failed):
        return None
    side = after if failed[1] else before
    reason = next(point.reason for point in side if point.status != "ok")
    call: Call = "INCONCLUSIVE"
    if failed[1] == len(after) and not failed[0]:
        call = "WORSE"
    elif failed[0] == len(before) and not failed[1]:
        call = "GAIN"
    which = "with the remedy" if failed[1] else "before it"
    why = f"runs {which} failed: {reason}"
    return Verdict(
        call=call, metric=GOODPUT, ratio=None, pairs=len(before), before=(), after=(), why=why
    )


def _without_ratio(metric: str, old: list[float], new: list[float]) -> Verdict:
    """Where one side has none of it: clear if it is so in every pair, else not called."""
    call: Call = "INCONCLUSIVE"
    if max(old) <= 0 < min(new):
        call = "GAIN"
    elif max(new) <= 0 < min(old):
        call = "WORSE"
    why = f"{metric} is 0 in some runs: there is no ratio"
    return Verdict(
        call=call, metric=metric, ratio=None, pairs=len(old),
        before=tuple(old), after=tuple(new), why=why,
    )  # fmt: skip


def _verdict(metric: str, old: list[float], new: list[float], found: Comparison) -> Verdict:
    return Verdict(
        call=found.call,
        metric=metric,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        pairs=found.pairs,
        before=tuple(old),
        after=tuple(new),
    )
