"""Replays searches on a recorded grid, and judges their picks, in two readings.

Per seed, one repeat of each configuration is held out, and all runs that were made for the truth
alone: many of the grid's best, where it matters. The search gets the others in a random order;
where it asks for more than there are, it gets those again, which is counted. A pick is judged by
the grid, the mean of all runs, against the grid's best; and by the runs held out, which no search
saw, so that no luck is counted twice. The machine's drift, which all configurations share, is taken
out of what judges (drift.py), never out of what a search sees. The plain means are kept beside it,
and the hits of `ceiling`, the pick of who knows all that a search may see, say what can be had. Not
here: the files (grids.py), tables (score_search.py).
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import msgspec

from drift import steadied
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
    plain: float
    """The same by the runs held out, drift and all."""
    reused: int = 0
    """Runs that were given for a second time, as there were no more."""


class Placed(NamedTuple):
    """A run, and when it was made."""

    at: int
    point: Point


class Replay:
    """One seed's split of a grid."""

    def __init__(self, recorded: Recorded, seed: int) -> None:
        self._slo, self._objective = recorded.slo, recorded.header.objective
        rng = random.Random(seed)
        groups: dict[str, list[Placed]] = {}
        for at, run in enumerate(recorded.runs):
            groups.setdefault(config_key(run.config), []).append(Placed(at, recorded.point(run)))
        self._all = list(groups.values())
        repeats = repeats_of(recorded)
        self.configs: list[dict[str, Scalar]] = [dict(runs[0].point.config) for runs in self._all]
        self._open: list[list[Placed]] = []
        self._held: list[list[Placed]] = []
        for group in self._all:
            runs = [run for run in group if run.point.repeat < repeats]
            if len(runs) < 2:
                raise ConfigError("a configuration was run once", "record more repeats")
            first, *others = rng.sample(runs, len(runs))
            self._open.append(others)
            self._held.append([first, *(run for run in group if run.point.repeat >= repeats)])

    def score(self, tuner: Tuner) -> Outcome:
        """Let a search spend its budget, and judge its pick."""
        seen = [0] * len(self._all)
        reused = 0
        while (trial := tuner.ask()) is not None:
            runs = self._open[trial.place]
            reused += seen[trial.place] >= len(runs)
            point = runs[seen[trial.place] % len(runs)].point
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
            plain=_ratio(pick, self._truths(self._held, steady=False)),
            reused=reused,
        )

    def _truths(
        self, groups: Sequence[Sequence[Placed]], steady: bool = True
    ) -> list[float | None]:
        """Each configuration's mean, as something to maximise; None where it is infeasible."""
        name = self._objective
        rows = sorted(
            (run.at, place, run.point.values[name])
            for place, runs in enumerate(groups)
            for run in runs
            if run.point.values.get(name, 0.0) > 0
        )
        places, values = [row[1] for row in rows], [row[2] for row in rows]
        sums = [0.0] * len(groups)
        for place, value in zip(
            places, steadied(places, values) if steady else values, strict=True
        ):
            sums[place] += value
        means = [total / len(runs) for total, runs in zip(sums, groups, strict=True)]
        able = [self._able([run.point for run in runs]) for runs in groups]
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
    """The readings of "30 % of the grid's runs": those that a search may see."""
    configs = len({config_key(run.config) for run in recorded.runs})
    seen = configs * (repeats_of(recorded) - 1)
    return {
        "30 % of the runs": round(SHARE * seen),
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


def noise_of(recorded: Recorded, steady: bool = False) -> float:
    """The coefficient of variation of the objective between repeats, pooled; without the drift."""
    name = recorded.header.objective
    keys = list(dict.fromkeys(config_key(run.config) for run in recorded.runs))
    runs = [run for run in recorded.runs if run.values.get(name, 0.0) > 0]
    places = [keys.index(config_key(run.config)) for run in runs]
    values = [run.values[name] for run in runs]
    groups: dict[int, list[float]] = {}
    for place, value in zip(places, steadied(places, values) if steady else values, strict=True):
        groups.setdefault(place, []).append(math.log(value))
    squares = sum((each - fmean(logs)) ** 2 for logs in groups.values() for each in logs)
    freedom = sum(len(logs) - 1 for logs in groups.values())
    return math.sqrt(math.expm1(squares / freedom)) if freedom else 0.0
