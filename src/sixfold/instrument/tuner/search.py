"""The search that learns: where the next run teaches most, and which configuration to use.

A space-filling start, then expected improvement of a Gaussian process on log-scores, times the
probability that the objective is met (Schonlau et al., 1998; Gardner et al., 2014), then repeats
by knowledge gradient (Frazier et al., 2009), so that no lucky run decides. Not here: the process
(surrogate.py), running anything, or plain searches (trial.py, halving.py).
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from sixfold.core.errors import ConfigError
from sixfold.instrument.tuner.space import Config, Scalar, Space
from sixfold.instrument.tuner.student import normal_cdf
from sixfold.instrument.tuner.surrogate import (
    Array,
    Kernel,
    Observations,
    Surrogate,
    pooled_noise,
)
from sixfold.instrument.tuner.trial import Ledger, Trial, TrialResult

_FAILED = 1.0
_VIOLATION_NOISE = 0.05
_STARTS = 64
_MOST_REPEATS = 12
_LEAST_REPEATS = 3


class SearchPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a search goes about it; the defaults were chosen on synthetic landscapes."""

    budget: int
    """Runs in all."""
    seed: int = 0
    noise: float = 0.03
    """Expected coefficient of variation of a run; from A/A repeats where there are any."""
    start: float = 0.3
    """The part of the budget that is spread evenly at first."""
    repeats: float = 0.3
    """The part of the budget that is kept for repeats."""

    def __post_init__(self) -> None:
        if not (0 < self.noise < 1 and self.start > 0 and self.repeats >= 0):
            raise ConfigError("a plan's noise or shares are not in 0..1", "keep the defaults")
        if self.start + self.repeats > 1:
            raise ConfigError("start and repeats are more than the whole budget", "lower one")


class Search:
    """Asks for one run at a time. The same seed and results give the same questions."""

    def __init__(
        self,
        configurations: Sequence[dict[str, Scalar]],
        space: Space,
        plan: SearchPlan,
        baseline: Config | None = None,
    ) -> None:
        self._ledger = Ledger(configurations, plan.budget)
        self._plan = plan
        self._rng = np.random.default_rng(plan.seed)
        vectors = np.array([space.encode(config) for config in configurations])
        kernel = Kernel(vectors, space.columns)
        self._all = np.arange(len(configurations))
        self._scores = Surrogate(kernel)
        self._limits = Surrogate(kernel)
        self._start = self._design(vectors, baseline)
        self._fitted_at = -1
        self._asked: Trial | None = None

    def ask(self) -> Trial | None:
        """The next run, the same until its result is told; None when the budget is spent."""
        if self._ledger.left <= 0:
            return None
        if self._asked is None:
            waiting = [place for place in self._start if place not in self._ledger.results]
            self._asked = self._ledger.trial(waiting[0] if waiting else self._next())
        return self._asked

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Learn from a run; also from one that was not asked for, such as before a resume."""
        self._ledger.add(trial, result)
        self._asked = None

    def best(self) -> Trial | None:
        """The feasible configuration with the best mean of runs, shrunk towards the model."""
        places = [place for place in self._ledger.results if self._ledger.feasible(place)]
        if not places:
            return None
        means, _ = self._predicted()
        return self._ledger.trial(max(places, key=lambda place: float(means[place])))

    def _next(self) -> int:
        kept = min(_MOST_REPEATS, round(self._plan.repeats * self._plan.budget))
        repeating = self._ledger.left <= kept
        fresh = np.array([p for p in self._all if p not in self._ledger.results], dtype=np.intp)
        if len(fresh) and not (repeating and self._leaders()):
            return int(fresh[np.argmax(self._promise(fresh))])
        return self._decide()

    def _design(self, vectors: Array, baseline: Config | None) -> list[int]:
        """The baseline and a spread of others: the most even of some random choices."""
        given = [i for i, c in enumerate(self._ledger.configurations) if c == baseline]
        if baseline is not None and not given:
            raise ConfigError("the baseline is not among the configurations", "add it")
        places = [int(i) for i in self._all if i not in given]
        count = max(self._limits.dimensions + 2, round(self._plan.start * self._plan.budget))
        count = min(count - len(given), len(places), self._plan.budget - len(given))
        picks = [
            given + [int(p) for p in self._rng.choice(places, max(count, 0), replace=False)]
            for _ in range(_STARTS if places else 1)
        ]
        return max(picks, key=lambda pick: _evenness(vectors[pick]))

    def _leaders(self) -> list[int]:
        return [place for place in self._ledger.results if self._ledger.feasible(place)]

    def _predicted(self) -> tuple[Array, Array]:
        """Mean and deviation of the log-score of every configuration."""
        ledger = self._ledger
        runs = {p: s for p in ledger.results if (s := ledger.log_scores(p))}
        if not runs or not self._scores.dimensions:
            return np.zeros(len(self._all)), np.ones(len(self._all))
        noise = pooled_noise(runs, self._plan.noise)
        if self._fitted_at != ledger.spent:
            self._scores.fit(_observed(runs, noise), self._sweeps())
            self._fitted_at = ledger.spent
            self._guess = self._scores.predict(self._all)
        return self._guess

    def _sweeps(self) -> int:
        if self._fitted_at < 0:
            return 4
        return int(self._ledger.spent % (1 + self._ledger.spent // 6) == 0)

    def _met(self) -> Array:
        """Probability of every configuration to meet the objective."""
        runs = {p: [_miss(r) for r in rs] for p, rs in self._ledger.results.items()}
        missed = any(miss > 0 for misses in runs.values() for miss in misses)
        if not missed or not self._limits.dimensions:
            return np.ones(len(self._all))
        self._limits.fit(_observed(runs, _VIOLATION_NOISE), 1)
        means, deviations = self._limits.predict(self._all)
        return np.array([normal_cdf(-m / d) for m, d in zip(means, deviations, strict=True)])

    def _promise(self, places: NDArray[np.intp]) -> Array:
        """Expected improvement times the probability to be feasible; alone while none is."""
        met = self._met()
        leaders = self._leaders()
        if not leaders:
            return met[places]
        means, deviations = self._predicted()
        best = max(means[leaders])
        return _improvement(means[places] - best, deviations[places]) * met[places]

    def _decide(self) -> int:
        """The run that most likely changes the pick for the better (knowledge gradient)."""
        means, deviations = self._predicted()
        runs = self._ledger.results
        leaders = self._leaders()
        if not leaders:
            return min(runs, key=lambda place: len(runs[place]))
        first = max(leaders, key=lambda place: float(means[place]))
        if len(runs[first]) + self._ledger.left <= _LEAST_REPEATS:
            return first
        second = max((float(means[p]) for p in leaders if p != first), default=-math.inf)
        gaps = means - means[first]
        gaps[first] = second - means[first] if math.isfinite(second) else -1.0
        change = deviations**2 / np.sqrt(deviations**2 + self._scores.noise**2)
        return int(np.argmax(_improvement(gaps, change) * self._hopes()))

    def _hopes(self) -> Array:
        """Probability to meet the objective; of what was run, whether it mostly did."""
        met = self._met()
        for place, runs in self._ledger.results.items():
            share = sum(run.feasible for run in runs) / len(runs)
            met[place] = share if len(runs) < _LEAST_REPEATS else float(share > 0.5)
        return met


def _observed(runs: dict[int, list[float]], noise: float) -> Observations:
    places = np.array(list(runs), dtype=np.intp)
    means = np.array([sum(values) / len(values) for values in runs.values()])
    counts = np.array([float(len(values)) for values in runs.values()])
    return Observations(places, means, counts, noise)


def _miss(result: TrialResult) -> float:
    """How far a run is from the limit, within -1..1 and never at 0."""
    if result.failure:
        return _FAILED
    if result.violation > 0:
        return min(result.violation, _FAILED) + 0.05
    return max(result.violation, -_FAILED) - 0.05


def _improvement(gain: Array, deviation: Array) -> Array:
    """Expected improvement of a normal variable (Jones et al., 1998)."""
    z = gain / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.asarray(gain * np.array([normal_cdf(each) for each in z]) + deviation * density)


def _evenness(vectors: Array) -> float:
    """High where points are far apart, and each coordinate's values are used alike."""
    gaps = np.sqrt(((vectors[:, None] - vectors[None]) ** 2).sum(-1))
    gaps[np.diag_indices_from(gaps)] = np.inf
    return float(-(1 / (gaps + 1e-3)).sum())
