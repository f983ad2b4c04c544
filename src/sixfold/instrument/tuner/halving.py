"""Successive halving: repeats for the better half, for spaces where nothing is ordered.

Jamieson & Talwalkar (2016), with repeats as the resource. Not here: the search that learns.
"""

import math
import random
from collections.abc import Sequence

from sixfold.instrument.tuner.space import Scalar
from sixfold.instrument.tuner.trial import Ledger, Trial, TrialResult


class HalvingSearch:
    """Spends an equal share of the budget in every round, on half as many configurations."""

    def __init__(
        self, configurations: Sequence[dict[str, Scalar]], budget: int, seed: int = 0
    ) -> None:
        self._ledger = Ledger(configurations, budget)
        places = range(len(configurations))
        count = min(len(places), max(1, budget // 2))
        self._rounds = max(1, math.ceil(math.log2(count)))
        self._pool = random.Random(seed).sample(places, min(count, len(places)))
        self._goal = 1
        self._round = 0

    def ask(self) -> Trial | None:
        """The pool's least run configuration; None when the budget is spent."""
        if self._ledger.left <= 0:
            return None
        if self._runs(self._least()) >= self._goal:
            self._halve()
        return self._ledger.trial(self._least())

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Note a result."""
        self._ledger.add(trial, result)

    def best(self) -> Trial | None:
        """The highest mean of those that were run most, if any of them is feasible."""
        fits = [place for place in self._ledger.results if self._ledger.feasible(place)]
        if not fits:
            return None
        last = [place for place in fits if place in self._pool] or fits
        return self._ledger.trial(max(last, key=self._ledger.mean))

    def _runs(self, place: int) -> int:
        return len(self._ledger.results.get(place, ()))

    def _least(self) -> int:
        return min(self._pool, key=self._runs)

    def _halve(self) -> None:
        ranked = sorted(self._pool, key=self._rank, reverse=True)
        self._pool = ranked[: max(1, (len(ranked) + 1) // 2)]
        self._round += 1
        rounds = max(1, self._rounds - self._round)
        self._goal += max(1, self._ledger.left // rounds // len(self._pool))

    def _rank(self, place: int) -> tuple[bool, float]:
        """Feasible ones by their mean, the others by how far they missed."""
        if self._ledger.feasible(place):
            return True, self._ledger.mean(place)
        runs = self._ledger.results[place]
        return False, -sum(1.0 if run.failure else max(run.violation, 0.0) for run in runs)
