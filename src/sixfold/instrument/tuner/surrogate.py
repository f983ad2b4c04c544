"""A small Gaussian process over a finite set of configurations, for tens of observations.

The kernel is a product of Matern 5/2 over parameters, mixed with their mean: an additive part
(Duvenaud et al., 2011), since effects of settings are nearly independent on a log scale. A
quirk, a part of each configuration's own that repeats share, keeps a lone good one from being
smoothed away as noise. Hyperparameters maximise the marginal likelihood over a small grid, one
at a time (Rasmussen & Williams, 2006, ch. 5). Not here: what to run next (search.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LENGTHS = (0.2, 0.4, 0.8, 1.6, 4.0, 12.0)
"""Length scales to choose from; parameters are scaled to 0..1."""
_MIXES = (0.0, 0.3, 0.6, 0.85)
_NOISES = (1e-4, 1e-3, 5e-3, 0.02, 0.06, 0.2, 0.6)
_QUIRKS = (0.5, 1.5, 4.0)


@dataclass(frozen=True)
class Hyper:
    """What is chosen: a length scale per parameter by its place in LENGTHS, mix, and noise."""

    lengths: tuple[int, ...]
    mix: int = 1
    """Weight of the additive part, by its place in _MIXES."""
    noise: int = 2
    """Variance of one run's noise, as a part of the process's own, by its place in _NOISES."""
    quirk: int = 0
    """Variance of the quirks, in variances of the noise, by its place in _QUIRKS."""

    @property
    def noise_ratio(self) -> float:
        """Variance of one run's noise over that of the smooth process."""
        return _NOISES[self.noise]

    @property
    def quirk_ratio(self) -> float:
        """Variance of the quirks over that of the smooth process."""
        return _NOISES[self.noise] * _QUIRKS[self.quirk]


@dataclass(frozen=True)
class Observations:
    """Means of runs: of which configuration, over how many, and what is known of their noise."""

    places: NDArray[np.intp]
    means: Array
    counts: Array
    noise: float
    """Expected standard deviation of one run."""


class Kernel:
    """Covariances of configurations, from tables over each parameter's few distinct values."""

    def __init__(self, vectors: Array, columns: Sequence[int]) -> None:
        self._codes: list[NDArray[np.intp]] = []
        self._tables: list[list[Array]] = []
        for parameter in sorted(set(columns)):
            part = vectors[:, [i for i, column in enumerate(columns) if column == parameter]]
            distinct, codes = np.unique(part, axis=0, return_inverse=True)
            if len(distinct) > 1:
                gaps = np.sqrt(((distinct[:, None] - distinct[None]) ** 2).sum(-1))
                self._codes.append(codes.reshape(-1).astype(np.intp))
                self._tables.append([_matern(gaps / length) for length in LENGTHS])
        self.dimensions = len(self._codes)

    def parts(self, rows: NDArray[np.intp], others: NDArray[np.intp]) -> "Parts":
        """Covariances of rows with others, to be combined."""
        indices = [np.ix_(codes[rows], codes[others]) for codes in self._codes]
        return Parts(self._tables, indices)


class Parts:
    """Per parameter and length scale, covariances of some rows with others; made when needed."""

    def __init__(self, tables: list[list[Array]], indices: list[Any]) -> None:
        self._tables = tables
        self._indices = indices
        self._made: dict[tuple[int, int], Array] = {}

    def part(self, parameter: int, length: int) -> Array:
        """The covariances by one parameter at a length scale."""
        key = (parameter, length)
        if key not in self._made:
            self._made[key] = self._tables[parameter][length][self._indices[parameter]]
        return self._made[key]


def combined(parts: Parts, hyper: Hyper) -> Array:
    """The whole kernel of the parts: product and mean over parameters, mixed."""
    chosen = [parts.part(p, length) for p, length in enumerate(hyper.lengths)]
    whole, total = chosen[0].copy(), chosen[0].copy()
    for part in chosen[1:]:
        whole *= part
        total += part
    mix = _MIXES[hyper.mix]
    return (1 - mix) * whole + (mix / len(chosen)) * total


class Surrogate:
    """The process after some observations; keeps its hyperparameters as a start for the next."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.dimensions = kernel.dimensions
        self.hyper = Hyper((3,) * kernel.dimensions)

    def fit(self, seen: Observations, sweeps: int) -> None:
        """Choose hyperparameters anew: `sweeps` times each in turn; 0 keeps them."""
        self._seen = seen
        self._parts = self._kernel.parts(seen.places, seen.places)
        self._best = self._evidence(self.hyper) if sweeps else 0.0
        for _ in range(sweeps):
            before = self.hyper
            self._sweep()
            if self.hyper == before:
                break
        self._condition()

    def _sweep(self) -> None:
        for position, at in enumerate(self.hyper.lengths):
            self._choose([self._with_length(position, i) for i in _beside(at, LENGTHS)])
        self._choose([replace(self.hyper, mix=i) for i in _beside(self.hyper.mix, _MIXES)])
        self._choose([replace(self.hyper, noise=i) for i in _beside(self.hyper.noise, _NOISES)])
        self._choose([replace(self.hyper, quirk=i) for i in _beside(self.hyper.quirk, _QUIRKS)])

    def _with_length(self, position: int, length: int) -> Hyper:
        lengths = list(self.hyper.lengths)
        lengths[position] = length
        return replace(self.hyper, lengths=tuple(lengths))

    def _choose(self, choices: list[Hyper]) -> None:
        for hyper in choices:
            evidence = self._evidence(hyper)
            if evidence > self._best:
                self.hyper, self._best = hyper, evidence

    def _evidence(self, hyper: Hyper) -> float:
        """Log marginal likelihood, with weak priors on lengths and on the noise."""
        factor, _, variance = _solved(self._parts, self._seen, hyper)
        count = len(self._seen.means)
        fit = -0.5 * count * math.log(variance) - float(np.log(np.diag(factor)).sum())
        deviation = math.sqrt(hyper.noise_ratio * variance)
        surprise = math.log(deviation / self._seen.noise) / 0.5
        lengths = sum(math.log(LENGTHS[i] / 1.6) ** 2 for i in hyper.lengths)
        return fit - 0.5 * surprise**2 - 0.1 * lengths

    def _condition(self) -> None:
        self._factor, self._mean, self._variance = _solved(self._parts, self._seen, self.hyper)
        residual = self._seen.means - self._mean
        half = np.linalg.solve(self._factor, np.eye(len(residual)))
        self._inverse = half.T @ half
        self._weights = self._inverse @ residual

    def predict(self, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        """Mean and standard deviation of the noise-free value at each row."""
        quirk = self.hyper.quirk_ratio
        cross = combined(self._kernel.parts(rows, self._seen.places), self.hyper)
        cross += quirk * (rows[:, None] == self._seen.places[None])
        explained = ((cross @ self._inverse) * cross).sum(1)
        left = np.maximum(1 + quirk - explained, 1e-9)
        return self._mean + cross @ self._weights, np.sqrt(left * self._variance)

    @property
    def noise(self) -> float:
        """Standard deviation of one run, as the process sees it."""
        return math.sqrt(self.hyper.noise_ratio * self._variance)


def _solved(parts: Parts, seen: Observations, hyper: Hyper) -> tuple[Array, float, float]:
    """Cholesky factor, mean by generalised least squares, and variance of the process."""
    covariance = combined(parts, hyper)
    own = hyper.quirk_ratio + hyper.noise_ratio / seen.counts + 1e-8
    covariance.flat[:: len(covariance) + 1] += own
    factor = np.asarray(np.linalg.cholesky(covariance), np.float64)
    columns = np.stack([seen.means, np.ones_like(seen.means)], axis=1)
    values, ones = np.linalg.solve(factor, columns).T
    mean = float(values @ ones / (ones @ ones))
    squares = float(((values - mean * ones) ** 2).sum())
    # An inverse gamma prior of two runs' weight at the noise keeps it from 0 where all are alike.
    variance = (squares + 2 * seen.noise**2) / (len(seen.means) + 2)
    return factor, mean, variance


def _beside(at: int, choices: Sequence[float]) -> list[int]:
    return [i for i in (at - 1, at + 1) if 0 <= i < len(choices)]


def _matern(gaps: Array) -> Array:
    scaled = math.sqrt(5) * gaps
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def pooled_noise(runs: Mapping[int, Sequence[float]], prior: float, weight: float = 4.0) -> float:
    """Standard deviation of one run from repeats; `prior` counts as `weight` degrees of freedom."""
    squares, freedom = weight * prior**2, weight
    for values in runs.values():
        middle = sum(values) / len(values)
        squares += sum((value - middle) ** 2 for value in values)
        freedom += len(values) - 1
    return math.sqrt(squares / freedom)
