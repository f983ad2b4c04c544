"""Replays searches on a recorded grid, and judges their picks, in two readings.

Per seed, some repeats of each configuration are held out: half of them, at least one. The search
gets the others in a random order; where it asks for more than there are, it gets those again, which
is counted. A pick is judged by the grid, the mean of all repeats, against the grid's best; and by
the runs held out, which no search saw, so that no luck is counted twice. A few runs held out are
noisy, and the best of many noisy values is too good: the hits of `ceiling`, the pick of who knows
all that a search may see, say what can be had. Not here: the files (grids.py), tables
(score_search.py).
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

import msgspec

from grids import Recorded
from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.tuner.halving import HalvingSearch
from sixfold.instrument.tuner.outcome import (
    Tried,
    config_key,
    feasible,
    lower_is_better,
    trial_result,
    tried,
)
from sixfold.instrument.tuner.search import Search, SearchPlan
from sixfold.instrument.tuner.space import Scalar, space_of
from sixfold.instrument.tuner.trial import Tuner, random_search

Configs = Sequence[dict[str, Scalar]]
Make = Callable[[Configs, int, int], Tuner]
"""Of configurations, runs, and a seed."""

GOOD = 0.97
SHARE = 0.3


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one search did with one seed."""

    ratio: float
    """Its pick's mean over all repeats, over that of the grid's best; 0 where it is infeasible."""
    unseen: float
    """The same by the runs held out alone."""
    reused: int = 0
    """Runs that were given for a second time, as there were no more."""


class Replay:
    """One seed's split of a grid."""

    def __init__(self, recorded: Recorded, seed: int) -> None:
        self._slo, self._objective = recorded.slo, recorded.header.objective
        rng = random.Random(seed)
        self.groups = tried(recorded.point(run) for run in recorded.runs)
        self.configs: list[dict[str, Scalar]] = [dict(g.points[0].config) for g in self.groups]
        self._open: list[list[Point]] = []
        self._held: list[list[Point]] = []
        for group in self.groups:
            points = rng.sample(group.points, len(group.points))
            if len(points) < 2:
                raise ConfigError("a configuration was run once", "record more repeats")
            cut = len(points) - max(1, len(points) // 2)
            self._open.append(points[:cut])
            self._held.append(points[cut:])

    def score(self, tuner: Tuner) -> Outcome:
        """Let a search spend its budget, and judge its pick."""
        seen = [0] * len(self.groups)
        reused = 0
        while (trial := tuner.ask()) is not None:
            runs = self._open[trial.place]
            reused += seen[trial.place] >= len(runs)
            point = runs[seen[trial.place] % len(runs)]
            seen[trial.place] += 1
            tuner.tell(trial, trial_result(point, self._slo, self._objective))
        pick = tuner.best()
        return self._judged(None if pick is None else pick.place, reused)

    def ceiling(self) -> Outcome:
        """Of the pick by the means of all that any search may see."""
        values = [self._value(runs) for runs in self._open]
        able = [place for place, value in enumerate(values) if value is not None]
        return self._judged(max(able, key=lambda place: values[place] or 0.0, default=None), 0)

    def _judged(self, pick: int | None, reused: int) -> Outcome:
        return Outcome(
            ratio=self._ratio(pick, [group.points for group in self.groups]),
            unseen=self._ratio(pick, self._held),
            reused=reused,
        )

    def _ratio(self, pick: int | None, runs: Sequence[Sequence[Point]]) -> float:
        truths = [self._value(points) for points in runs]
        best = max((truth for truth in truths if truth is not None), default=None)
        if best is None:
            raise ConfigError("no configuration meets the objective", "score under another one")
        own = truths[pick] if pick is not None else None
        return 0.0 if own is None else own / best

    def _value(self, points: Sequence[Point]) -> float | None:
        """The mean, as something to maximise; None where it is infeasible."""
        group = Tried(key="", points=tuple(points))
        if not feasible(group, self._slo) or self._objective not in group.values:
            return None
        value = fmean(point.values[self._objective] for point in points)
        return 1 / max(value, 1e-9) if lower_is_better(self._objective) else value


def budgets(recorded: Recorded) -> dict[str, int]:
    """The readings of "30 % of the grid's runs"."""
    configs = len({config_key(run.config) for run in recorded.runs})
    return {
        "30 % of the runs": round(SHARE * len(recorded.runs)),
        "30 % of the configurations": round(SHARE * configs),
    }


def _search(configs: Configs, budget: int, seed: int) -> Tuner:
    return Search(configs, space_of(configs), SearchPlan(budget=budget, seed=seed))


SEARCHES: dict[str, Make] = {
    "Search": _search,
    "random": lambda configs, budget, seed: random_search(configs, budget, seed),
    "halving": lambda configs, budget, seed: HalvingSearch(configs, budget, seed),
}


def outcomes(recorded: Recorded, make: Make, budget: int, seeds: Sequence[int]) -> list[Outcome]:
    """Of a search, one for each seed: the split and the search's own luck."""
    found = []
    for seed in seeds:
        replay = Replay(recorded, seed)
        found.append(replay.score(make(replay.configs, budget, seed)))
    return found


def ceilings(recorded: Recorded, seeds: Sequence[int]) -> list[Outcome]:
    """Of who knows all that a search may see."""
    return [Replay(recorded, seed).ceiling() for seed in seeds]


def hits(ratios: Iterable[float]) -> int:
    """Good picks."""
    return sum(ratio >= GOOD for ratio in ratios)


def noise_of(recorded: Recorded) -> float:
    """The coefficient of variation of the objective between repeats, pooled."""
    squares, freedom = 0.0, 0
    for group in tried(recorded.point(run) for run in recorded.runs):
        values = [p.values.get(recorded.header.objective, 0.0) for p in group.points]
        logs = [math.log(value) for value in values if value > 0]
        if len(logs) > 1:
            squares += sum((each - fmean(logs)) ** 2 for each in logs)
            freedom += len(logs) - 1
    return math.sqrt(math.expm1(squares / freedom)) if freedom else 0.0
