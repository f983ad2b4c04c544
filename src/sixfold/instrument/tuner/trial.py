"""What searches share: trials, their results, the ask-and-tell protocol, and two plain searches.

Not here: the search that learns (search.py).
"""

import math
import random
from collections.abc import Sequence
from typing import Protocol

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.tuner.space import Scalar


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run to make: a configuration by its place in those given, for the n-th time from 0."""

    place: int
    config: dict[str, Scalar]
    repeat: int


class TrialResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run gave. A failure (did not start, ran out of memory) is a result, too."""

    score: float | None = None
    """To maximise, in its own unit and above 0: such as goodput. None: there is none."""
    violation: float = 0.0
    """How far the objective was missed, as a part of its bound (0.2: a fifth over); 0: it was met.

    Below 0 is the room left; it helps to foresee the limit, but is not needed."""
    failure: str = ""
    """Why there is no score."""

    def __post_init__(self) -> None:
        numbers = [self.violation, *([] if self.score is None else [self.score])]
        if not all(map(math.isfinite, numbers)):
            raise ConfigError("a result is no finite number", "report it as a failure")
        if self.score is None and not self.failure and self.violation <= 0:
            raise ConfigError("a result without score, failure or violation", "give one of them")

    @property
    def feasible(self) -> bool:
        """Whether it counts: it has a score and met the objective."""
        return not self.failure and self.violation <= 0 and (self.score or 0) > 0


class Tuner(Protocol):
    """Says what to run next, and learns from what came of it. One trial at a time."""

    def ask(self) -> Trial | None:
        """The next trial; None when the budget is spent."""
        ...

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Learn the result of a trial that was asked for."""
        ...

    def best(self) -> Trial | None:
        """The configuration to use, with its number of runs; None while none is feasible."""
        ...


class Ledger:
    """All results so far, by configuration, and how many runs are left."""

    def __init__(self, configurations: Sequence[dict[str, Scalar]], budget: int) -> None:
        if not configurations:
            raise ConfigError("nothing to search: no configurations", "widen the space")
        if budget < 1:
            raise ConfigError(f"a budget of {budget} runs", "give at least 1")
        self.configurations = configurations
        self.budget = budget
        self.results: dict[int, list[TrialResult]] = {}
        self.spent = 0

    @property
    def left(self) -> int:
        """Runs that may still be made."""
        return self.budget - self.spent

    def trial(self, place: int) -> Trial:
        """The next run of a configuration."""
        repeat = len(self.results.get(place, ()))
        return Trial(place, dict(self.configurations[place]), repeat)

    def add(self, trial: Trial, result: TrialResult) -> None:
        """Note a result. Raises ConfigError for a trial of other configurations."""
        known = 0 <= trial.place < len(self.configurations)
        if not known or self.configurations[trial.place] != trial.config:
            raise ConfigError("a result of a trial never asked for", "resume with the same space")
        self.results.setdefault(trial.place, []).append(result)
        self.spent += 1

    def feasible(self, place: int) -> bool:
        """Whether most runs of a configuration count."""
        runs = self.results.get(place, [])
        return 2 * sum(run.feasible for run in runs) > len(runs)

    def log_scores(self, place: int) -> list[float]:
        """Logarithms of its scores, where there are any."""
        runs = self.results.get(place, [])
        return [math.log(run.score) for run in runs if run.score and run.score > 0]

    def mean(self, place: int) -> float:
        """Mean log-score of its runs that count."""
        runs = [r for r in self.results[place] if r.feasible and r.score]
        return sum(math.log(r.score or 1) for r in runs) / len(runs)

    def best_mean(self) -> Trial | None:
        """The feasible configuration with the highest mean."""
        places = [place for place in self.results if self.feasible(place)]
        return self.trial(max(places, key=self.mean)) if places else None


class ListedSearch:
    """Runs configurations in a fixed order, around and around, until the budget is spent."""

    def __init__(self, ledger: Ledger, order: Sequence[int], repeats: int = 1) -> None:
        self._ledger = ledger
        self._order = [place for place in order for _ in range(repeats)]

    def ask(self) -> Trial | None:
        """The next in the order."""
        if self._ledger.left <= 0:
            return None
        return self._ledger.trial(self._order[self._ledger.spent % len(self._order)])

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Note a result."""
        self._ledger.add(trial, result)

    def best(self) -> Trial | None:
        """The highest mean of runs."""
        return self._ledger.best_mean()


class NoSearch:
    """Where there is nothing to try: the baseline stays alone."""

    def ask(self) -> Trial | None:
        """Nothing."""
        return None

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Not called: nothing was asked."""

    def best(self) -> Trial | None:
        """Nothing."""
        return None


def grid_search(
    configurations: Sequence[dict[str, Scalar]], budget: int = 0, repeats: int = 3, seed: int = 0
) -> ListedSearch:
    """Every configuration `repeats` times, in rounds; each round in a new random order.

    Rounds keep a slow drift of the machine from favouring whoever came first.
    """
    rng = random.Random(seed)
    places = range(len(configurations))
    order = [place for _ in range(repeats) for place in rng.sample(places, len(places))]
    return ListedSearch(Ledger(configurations, budget or max(1, len(order))), order)


def random_search(
    configurations: Sequence[dict[str, Scalar]], budget: int, seed: int, repeats: int = 1
) -> ListedSearch:
    """Configurations at random, none twice before all were run, each `repeats` times in a row."""
    places = range(len(configurations))
    order = random.Random(seed).sample(places, len(places))
    return ListedSearch(Ledger(configurations, budget), order, repeats)
