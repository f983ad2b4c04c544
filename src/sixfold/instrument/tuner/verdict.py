"""Whether a change is a gain: two sets of repeats of one metric, compared with honest odds.

Runs are compared by log-ratios, in interleaved pairs, with Student's t; a bootstrap of six pairs
covers too little. Looks at growing data share one error by a union bound (alpha spending; Lan &
DeMets, 1983), so stopping early is no cheat. Not here: limits for CI (fail_if.py).
"""

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.tuner.student import t_quantile

Call = Literal["GAIN", "NO GAIN", "WORSE", "INCONCLUSIVE"]

MAX_REPEATS = 1000
"""More than these are no plan."""


class NoiseFloor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs of the same thing differ by: standard deviation of log-values, and its freedom."""

    deviation: float
    freedom: int
    """Degrees of freedom that it was estimated with."""

    @property
    def cv(self) -> float:
        """The coefficient of variation that goes with it."""
        return math.sqrt(math.expm1(self.deviation**2))


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A planned look at the data: after how many pairs, and the error that is spent on it."""

    pairs: int
    alpha: float


class CallRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How sure a call must be, and when the data are looked at."""

    looks: tuple[Look, ...] = (Look(3, 0.005), Look(4, 0.01), Look(6, 0.025))
    """When a call may be made; the sum of their errors is the whole error."""
    min_effect: float = 0.01
    """A gain smaller than this is none."""

    def __post_init__(self) -> None:
        if not self.looks or any(look.pairs < 2 or look.alpha <= 0 for look in self.looks):
            raise ConfigError("looks need two pairs or more and an error over 0", "such as 6, 0.04")
        if spent_by(self, self.last) >= 1 or not 0 <= self.min_effect < 1:
            raise ConfigError("the error or min_effect is not in 0..1", "such as 0.04 and 0.01")

    @property
    def last(self) -> int:
        """Pairs at the last look."""
        return max(look.pairs for look in self.looks)


def rules_up_to(pairs: int, rules: CallRules) -> CallRules:
    """The same error in all, with no look after `pairs`. Raises ConfigError under 3 pairs."""
    if pairs < 3:
        raise ConfigError(f"{pairs} pairs tell nothing", "3 at the least")
    if pairs >= rules.last:
        return rules
    looks = [look for look in rules.looks if look.pairs < pairs]
    left = spent_by(rules, rules.last) - math.fsum(look.alpha for look in looks)
    return msgspec.structs.replace(rules, looks=(*looks, Look(pairs, left)))


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call, and the candidate's value over the baseline's with its interval."""

    call: Call
    ratio: float
    low: float
    high: float
    pairs: int
    alpha: float
    """The error that the interval allows for at this look."""
    final: bool
    """Whether no later look is planned, or the call is made."""


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    lower_is_better: bool,
    rules: CallRules | None = None,
    paired: bool = True,
) -> Comparison:
    """Judge the candidate. Paired: the n-th of each ran next to each other, in `pair_order`.

    Between the looks that the rules plan, the call is INCONCLUSIVE. Raises ConfigError.
    """
    rules = rules or CallRules()
    logs = [_logs(baseline), _logs(candidate)]
    count = min(map(len, logs))
    if paired and len(logs[0]) != len(logs[1]):
        raise ConfigError("pairs lack a half", "give both sides as many repeats, or paired=False")
    middle, error, freedom = _paired(*logs) if paired else _welch(*logs)
    # Between looks nothing is called, and the interval is the widest.
    alpha = math.fsum(look.alpha for look in rules.looks if look.pairs == count)
    width = alpha or min(look.alpha for look in rules.looks)
    reach = t_quantile(1 - width / 2, freedom) * error
    call: Call = "INCONCLUSIVE"
    if alpha:
        call = _call((middle, reach), rules.min_effect, lower_is_better)
    return Comparison(
        call,
        math.exp(middle),
        math.exp(middle - reach),
        math.exp(middle + reach),
        count,
        alpha,
        call != "INCONCLUSIVE" or count >= rules.last,
    )


def pair_order(pairs: int, seed: int) -> list[bool]:
    """For each pair, whether the candidate runs first: half of them, so that drift cancels.

    ABBA blocks, in an order by the seed.
    """
    rng = random.Random(seed)
    blocks = [rng.sample((False, True), 2) for _ in range((pairs + 1) // 2)]
    return [first for block in blocks for first in block][:pairs]


def noise_floor(groups: Sequence[Sequence[float]]) -> NoiseFloor:
    """Pool the repeats of several configurations, each run at least twice somewhere (A/A)."""
    squares, freedom = 0.0, 0
    for group in groups:
        logs = _logs(group)
        squares += _squares(logs)
        freedom += max(0, len(logs) - 1)
    if freedom < 1:
        raise ConfigError("no repeats to tell the noise from", "run something twice")
    return NoiseFloor(math.sqrt(squares / freedom), freedom)


def needed_repeats(cv: float, effect: float, power: float = 0.8, alpha: float = 0.04) -> int:
    """Pairs for a gain of `effect` (0.1 is 10 %) to be called with that power at one look.

    Raises ConfigError where more than MAX_REPEATS are needed.
    """
    if not (cv >= 0 and effect > -1 and effect != 0 and 0 < power < 1 and 0 < alpha < 1):
        raise ConfigError("noise, effect, power or error out of range", "such as 0.03 and 0.1")
    ratio = abs(math.log1p(effect))
    deviation = math.sqrt(2 * math.log1p(cv * cv))

    def enough(pairs: int) -> bool:
        needed = t_quantile(1 - alpha / 2, pairs - 1) + max(0.0, t_quantile(power, pairs - 1))
        return needed * deviation <= ratio * math.sqrt(pairs)

    if not enough(MAX_REPEATS):
        hint = "lower the noise, or ask for less"
        raise ConfigError(f"over {MAX_REPEATS} repeats are needed", hint)
    return 2 + bisect_left(range(2, MAX_REPEATS), True, key=enough)


def spent_by(rules: CallRules, pairs: int) -> float:
    """The error that all looks up to this number of pairs may have made together."""
    return math.fsum(look.alpha for look in rules.looks if look.pairs <= pairs)


def _call(interval: tuple[float, float], min_effect: float, lower_is_better: bool) -> Call:
    middle, reach = interval
    gain = -middle if lower_is_better else middle
    least = math.log1p(min_effect)
    if gain - reach > 0 and gain >= least:
        return "GAIN"
    if gain + reach < 0 and gain <= -least:
        return "WORSE"
    return "NO GAIN" if gain + reach < least else "INCONCLUSIVE"


def _logs(values: Sequence[float]) -> list[float]:
    if not all(math.isfinite(value) and value > 0 for value in values):
        hint = "compare times, rates or costs; judge shares that may be 0 by an objective"
        raise ConfigError("a value is not above 0", hint)
    return [math.log(value) for value in values]


def _squares(values: Sequence[float]) -> float:
    middle = math.fsum(values) / len(values) if values else 0.0
    return math.fsum((value - middle) ** 2 for value in values)


def _paired(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """Mean, standard error and freedom of the log-ratio."""
    ratios = [b - a for a, b in zip(before, after, strict=True)]
    count = len(ratios)
    if count < 2:
        raise ConfigError("one pair shows no noise", "give at least two repeats of both")
    error = math.sqrt(_squares(ratios) / (count - 1) / count)
    return math.fsum(ratios) / count, error, float(count - 1)


def _welch(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """The same for sets that are not paired (Welch, 1947)."""
    if min(len(before), len(after)) < 2:
        raise ConfigError("one repeat shows no noise", "give at least two repeats of both")
    parts = [_squares(side) / (len(side) - 1) / len(side) for side in (before, after)]
    spread = sum(parts)
    sides = zip(parts, (before, after), strict=True)
    weight = sum(part**2 / (len(side) - 1) for part, side in sides)
    freedom = spread**2 / weight if weight else float(len(before) + len(after) - 2)
    middle = math.fsum(after) / len(after) - math.fsum(before) / len(before)
    return middle, math.sqrt(spread), freedom
