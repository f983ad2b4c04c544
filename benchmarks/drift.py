"""Takes a shared machine's drift out of interleaved runs.

Whatever runs on such a machine is a few per cent faster or slower for some minutes. Rounds that are
interleaved tell this apart from the configurations, as in any block design: the logarithm of a
value is its configuration's effect, plus a change that neighbours in time share, plus noise; the
two are fitted in turn (backfitting; Hastie and Tibshirani, 1990). A run's own value has no part in
the change that is taken out of it. Not here: judging picks (replay.py).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 3.0
"""Of the neighbourhood: standard deviation of a Gaussian in runs; few, as the drift is quick."""
_ROUNDS = 50
_CLOSE = 1e-7


def steadied(places: Sequence[int], values: Sequence[float]) -> list[float]:
    """Values without the drift they share, in the order given, which is the order of measuring.

    `places[i]`: the configuration of run i; `values[i]` > 0. The drift's mean logarithm is 0, so
    that nothing is made faster as a whole. Raises ValueError for a value that is not positive.
    """
    if not values:
        return []
    if min(values) <= 0:
        raise ValueError("a value that is not positive has no logarithm")
    logs, where = np.log(np.array(values)), np.array(places)
    weights = _weights(where)
    change = np.zeros_like(logs)
    for _ in range(_ROUNDS):
        rest = logs - _means(where, logs - change)[where]
        found = weights @ rest
        found -= found.mean()
        moved = float(np.abs(found - change).max())
        change = found
        if moved < _CLOSE:
            break
    return [float(value) for value in np.exp(logs - change)]


def _means(where: NDArray[np.int_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each configuration."""
    return np.bincount(where, values) / np.maximum(np.bincount(where), 1)


def _weights(where: NDArray[np.int_]) -> NDArray[np.float64]:
    """Of every other run in the change at one's time; rows add up to 1, or to 0 for a lone run."""
    order = np.arange(len(where))
    weights = np.exp(-0.5 * ((order[:, None] - order[None]) / WIDTH) ** 2)
    weights[where[:, None] == where[None]] = 0.0
    total = weights.sum(1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 1e-12)
