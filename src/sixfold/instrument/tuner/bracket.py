"""The highest load that still meets the objective: growth, then bisection on a log scale.

A server near its limit passes one run and fails the next, so verdicts near the limit are by
majority, and a pass above a failure is looked at again. Not here: running a load (the load
generator), or judging a run (core/slo.py).
"""

import math

import msgspec

from sixfold.core.errors import ConfigError


class BracketPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where to begin, and when to stop."""

    start: float = 1.0
    growth: float = 2.0
    tolerance: float = 0.05
    """Stop when the lowest failing load is within this of the highest passing one."""
    lowest: float = 1e-3
    highest: float = 1e6
    whole: bool = False
    """Loads are whole numbers, such as concurrency."""
    confirm: int = 3
    """Runs at most to decide either end; two that agree and lead by two are enough."""
    max_runs: int = 40

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.start <= self.highest < math.inf:
            raise ConfigError("the start is not between the lowest and the highest load", "mend it")
        if not (self.growth > 1 and self.tolerance > 0):
            raise ConfigError("growth must be over 1, tolerance over 0", "such as 2 and 0.05")
        if self.confirm < 1 or self.max_runs < 1:
            raise ConfigError("confirm and max_runs must be at least 1", "keep the defaults")
        if self.whole and self.start < 1:
            raise ConfigError("a whole load begins at 1", "start at 1 or more")


class BracketResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the limit lies."""

    passing: float | None
    """Highest load that met the objective with every decided load below it; None: none did."""
    failing: float | None
    """Lowest load that missed it; None: not even the highest load did."""
    runs: int
    converged: bool
    """Whether the ends are as close as asked for, or the limit is beyond the loads allowed."""
    monotone: bool
    """False: above a load that failed, another kept passing; the failure was believed."""


class Bracket:
    """Asks for one load at a time. The question depends on the verdicts so far, and on no luck."""

    def __init__(self, plan: BracketPlan) -> None:
        self._plan = plan
        self._votes: dict[float, list[bool]] = {}
        self._runs = 0

    def ask(self) -> float | None:
        """The load to run next; None when the limit is known, or the runs are spent."""
        return self._next() if self._runs < self._plan.max_runs else None

    def tell(self, load: float, passed: bool) -> None:
        """Learn whether a run at that load met the objective."""
        if not (math.isfinite(load) and load > 0):
            raise ConfigError(f"a load of {load}", "tell a load that was asked for")
        self._votes.setdefault(load, []).append(passed)
        self._runs += 1

    def result(self) -> BracketResult:
        """What is known so far."""
        passing, failing = self._ends()
        return BracketResult(passing, failing, self._runs, self._next() is None, not self._odd())

    def _next(self) -> float | None:
        if not self._votes:
            return self._plan.start
        odd = [load for load in self._odd() if not self._sure(load)]
        if odd:
            return min(odd, key=lambda load: len(self._votes[load]))
        passing, failing = self._ends()
        if failing is None:
            return self._above(max(self._votes))
        if passing is None:
            return self._below(failing)
        if not self._close(passing, failing):
            return self._between(passing, failing)
        return self._unsure(passing, failing)

    def _ends(self) -> tuple[float | None, float | None]:
        """The highest pass below the lowest failure, and that failure."""
        failing = min((load for load in self._votes if not self._passes(load)), default=None)
        below = [v for v in self._votes if self._passes(v) and (failing is None or v < failing)]
        return max(below, default=None), failing

    def _odd(self) -> list[float]:
        """The lowest failure and the passes above it."""
        _, failing = self._ends()
        if failing is None:
            return []
        above = [load for load in self._votes if load > failing and self._passes(load)]
        return [failing, *above] if above else []

    def _passes(self, load: float) -> bool:
        votes = self._votes[load]
        return 2 * sum(votes) > len(votes)

    def _sure(self, load: float) -> bool:
        votes = self._votes[load]
        lead = abs(2 * sum(votes) - len(votes))
        tied = lead == 0 and len(votes) <= self._plan.confirm
        return not tied and (lead >= 2 or len(votes) >= self._plan.confirm)

    def _unsure(self, *loads: float) -> float | None:
        open_ends = [load for load in loads if not self._sure(load)]
        return min(open_ends, key=lambda load: len(self._votes[load]), default=None)

    def _close(self, low: float, high: float) -> bool:
        near = high <= low * (1 + self._plan.tolerance)
        return near or (self._plan.whole and high - low <= 1)

    def _above(self, load: float) -> float | None:
        if load >= self._plan.highest:
            return self._unsure(load)
        higher = min(self._plan.highest, load * self._plan.growth)
        return self._rounded(higher, load + 1) if self._plan.whole else higher

    def _below(self, load: float) -> float | None:
        floor = max(self._plan.lowest, 1.0) if self._plan.whole else self._plan.lowest
        if load <= floor:
            return self._unsure(load)
        lower = max(floor, load / self._plan.growth)
        return min(self._rounded(lower, 1), load - 1) if self._plan.whole else lower

    def _between(self, low: float, high: float) -> float:
        middle = math.sqrt(low * high)
        return min(self._rounded(middle, low + 1), high - 1) if self._plan.whole else middle

    def _rounded(self, load: float, least: float) -> float:
        return max(float(round(load)), least)
