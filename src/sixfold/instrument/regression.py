"""Two sets of runs of one thing, compared and held against limits, so that nothing passes unseen.

A run that failed, a number that was not measured and a value of 0 all count: a limit is only kept
where every run of the candidate says so. Not here: the odds (tuner/verdict.py), how a limit is
written (tuner/fail_if.py).
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from sixfold.core.metric_names import METRICS
from sixfold.core.point import Point
from sixfold.instrument.tuner.fail_if import FailIf
from sixfold.instrument.tuner.outcome import lower_is_better
from sixfold.instrument.tuner.verdict import CallRules, Comparison, Look, compare

ALPHA = 0.04
"""All repeats are there, so they are looked at once, with the whole error."""
Verdict = Literal["pass", "fail", "unsure"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One number of B against A's."""

    comparison: Comparison
    """`ratio`, `low` and `high` are 1 plus the change."""
    points: bool = False
    """The change is a difference of shares, since the ratio to a share of 0 is none."""
    missing: int = 0
    """Runs of B that did not measure it; those that failed are among them."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A limit's outcome, and why, where the numbers alone would have passed it."""

    verdict: Verdict
    reason: str = ""


def differences(a: Sequence[Point], b: Sequence[Point]) -> list[str]:
    """What both sides must share and don't: model, workload, load."""
    return [
        name
        for name in ("model", "workload", "load")
        if {_plain(point, name) for point in a} != {_plain(point, name) for point in b}
    ]


def _plain(point: Point, name: str) -> bytes:
    return msgspec.json.encode(getattr(point, name), order="deterministic")


def more_failures(a: Sequence[Point], b: Sequence[Point]) -> str:
    """Says that a larger part of B's runs failed than of A's; empty where that is not so."""
    lost = [[point for point in side if point.status != "ok"] for side in (a, b)]
    if len(lost[1]) * len(a) <= len(lost[0]) * len(b):
        return ""
    first = lost[1][0]
    return (
        f"{len(lost[1])} of {len(b)} runs of B failed, {len(lost[0])} of {len(a)} of A; "
        f"the first: {first.status}: {first.reason}"
    )


def changed(
    a: Sequence[Point], b: Sequence[Point], key: str, paired: bool = False
) -> Change | None:
    """Compare one number; None where either side has fewer than two runs that measured it.

    Where a value is 0 there are no log-ratios: shares are compared by their difference, other
    numbers by their means. Paired: the n-th of `a` and of `b` ran next to each other.
    """
    if paired and len(a) != len(b):
        return None
    sides = [[_value(point, key) for point in side] for side in (a, b)]
    missing = sum(value is None for value in sides[1])
    if paired:
        both = [pair for pair in zip(*sides, strict=True) if None not in pair]
        sides = [[pair[i] for pair in both] for i in (0, 1)]
    before, after = ([v for v in side if v is not None] for side in sides)
    count = min(len(before), len(after))
    if count < 2:
        return None
    rules = CallRules(looks=(Look(count, ALPHA),))
    if min(*before, *after) > 0:
        found = compare(before, after, lower_is_better(key), rules, paired=paired)
        return Change(comparison=found, missing=missing)
    shares = _is_share(key)
    scale = 1.0 if shares else max(*before, *after) or 1.0
    # The odds are worked out on logs: of these, the logs are the values themselves.
    first, second = ([math.exp(value / scale) for value in side] for side in (before, after))
    found = compare(first, second, lower_is_better(key), rules, paired=paired)
    base = 1.0 if shares else math.fsum(before) / len(before) / scale
    ratio, low, high = (1 + _over(math.log(x), base) for x in (found.ratio, found.low, found.high))
    found = msgspec.structs.replace(found, ratio=ratio, low=low, high=high)
    return Change(comparison=found, points=shares, missing=missing)


def _value(point: Point, key: str) -> float | None:
    value = point.values.get(key)
    return value if point.status == "ok" and value is not None and value >= 0 else None


def _is_share(key: str) -> bool:
    metric = METRICS.get(key.rpartition("/")[2].partition(":")[0])
    return metric is not None and metric.kind == "ratio"


def _over(change: float, base: float) -> float:
    """Relative to the baseline; from nothing, any rise is without bound."""
    if abs(change) < 1e-12:
        return 0.0
    return change / base if base > 0 else math.copysign(math.inf, change)


def judged(limit: FailIf, change: Change, b: Sequence[Point]) -> Judged:
    """Hold a limit against all of B's runs: those that don't tell can't let it pass."""
    verdict = limit.judge(change.comparison)
    if verdict != "pass" or not change.missing:
        return Judged(verdict=verdict)
    failed = sum(point.status != "ok" for point in b)
    why = f"{change.missing} of {len(b)} runs of B did not measure it"
    return Judged(verdict="unsure", reason=why + (f", {failed} of them failed" if failed else ""))
