"""Replays searches on a recorded grid, and judges their picks.

Per seed, half of each configuration's runs are held out, at least one. The search gets the others
in a random order; where it asks for more than there are, it gets those again, which is counted. The
grid's best were run more often than the grid has repeats: where it matters, the truth has many
runs, and a search that wants to be sure of a contender gets new ones. A pick is judged by the grid,
the mean of all runs, against the grid's best; and by the runs held out, which no search saw, so
that no luck is counted twice. The level of each round of recording is taken out (drift.py). The
hits of `ceiling`, the pick of who knows all that a search may see, say what can be had. Not here:
the files (grids.py), tables (score_search.py).
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, stdev

import msgspec

from drift import levelled
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
        groups: dict[str, list[Point]] = {}
        for run in level(recorded).runs:
            groups.setdefault(config_key(run.config), []).append(recorded.point(run))
        self._all = list(groups.values())
        self.configs: list[dict[str, Scalar]] = [dict(runs[0].config) for runs in self._all]
        self._open: list[list[Point]] = []
        self._held: list[list[Point]] = []
        for group in self._all:
            runs = rng.sample(group, len(group))
            if len(runs) < 2:
                raise ConfigError("a configuration was run once", "record more repeats")
            cut = len(runs) - max(1, len(runs) // 2)
            self._open.append(runs[:cut])
            self._held.append(runs[cut:])

    def score(self, tuner: Tuner) -> Outcome:
        """Let a search spend its budget, and judge its pick."""
        seen = [0] * len(self._all)
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
        values = self._truths(self._open)
        able = [place for place, value in enumerate(values) if value is not None]
        return self._judged(max(able, key=lambda place: values[place] or 0.0, default=None), 0)

    def _judged(self, pick: int | None, reused: int) -> Outcome:
        return Outcome(
            ratio=_ratio(pick, self._truths(self._all)),
            unseen=_ratio(pick, self._truths(self._held)),
            reused=reused,
        )

    def _truths(self, groups: Sequence[Sequence[Point]]) -> list[float | None]:
        """Each configuration's mean, as something to maximise; None where it is infeasible."""
        name = self._objective
        means = [fmean(point.values.get(name, 0.0) for point in group) for group in groups]
        able = [self._able(group) for group in groups]
        return [self._worth(mean) if ok else None for mean, ok in zip(means, able, strict=True)]

    def _able(self, points: Sequence[Point]) -> bool:
        group = Tried(key="", points=tuple(points))
        return feasible(group, self._slo) and self._objective in group.values

    def _worth(self, value: float) -> float:
        return 1 / max(value, 1e-9) if lower_is_better(self._objective) else value


def _ratio(pick: int | None, truths: Sequence[float | None]) -> float:
    best = max((truth for truth in truths if truth is not None), default=None)
    if best is None:
        raise ConfigError("no configuration meets the objective", "score under another one")
    own = truths[pick] if pick is not None else None
    return 0.0 if own is None else own / best


def repeats_of(recorded: Recorded) -> int:
    """How many runs of each configuration are of the grid."""
    return recorded.header.repeats or 1 + max(run.repeat for run in recorded.runs)


def budgets(recorded: Recorded) -> dict[str, int]:
    """The readings of "30 % of the grid's runs"; more of the best are not the grid's."""
    configs = len({config_key(run.config) for run in recorded.runs})
    return {
        "30 % of the runs": round(SHARE * configs * repeats_of(recorded)),
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


def level(recorded: Recorded) -> Recorded:
    """The same runs without the levels of their rounds; failures as they are."""
    name, keys = recorded.header.objective, _keys(recorded)
    grid = repeats_of(recorded)
    good = [i for i, run in enumerate(recorded.runs) if run.values.get(name, 0.0) > 0]
    runs = list(recorded.runs)
    told = levelled(
        [keys[i] for i in good],
        [max(0, runs[i].repeat - grid + 1) for i in good],
        [runs[i].values[name] for i in good],
    )
    for i, value in zip(good, told, strict=True):
        runs[i] = msgspec.structs.replace(runs[i], values=runs[i].values | {name: value})
    return msgspec.structs.replace(recorded, runs=tuple(runs))


def _keys(recorded: Recorded) -> list[int]:
    """Each run's configuration, by number."""
    keys = [config_key(run.config) for run in recorded.runs]
    return [list(dict.fromkeys(keys)).index(key) for key in keys]


def noise_of(recorded: Recorded) -> float:
    """The coefficient of variation of the objective between a configuration's runs, the median."""
    name = recorded.header.objective
    groups: dict[int, list[float]] = {}
    for key, run in zip(_keys(recorded), recorded.runs, strict=True):
        if run.values.get(name, 0.0) > 0:
            groups.setdefault(key, []).append(math.log(run.values[name]))
    found = [stdev(logs) for logs in groups.values() if len(logs) > 1]
    return math.sqrt(math.expm1(median(found) ** 2)) if found else 0.0
