"""Takes the machine's drift between rounds out of interleaved runs.

A shared machine is several per cent faster or slower for some minutes, and recording a grid takes
an hour. A round has each of its configurations once, so this is a block design: the logarithm of a
value is its configuration's effect, plus its round's, plus noise; the two are fitted in turn, and
the rounds' effects are taken out. A search takes minutes: it would see the level of one round. Not
here: judging picks (replay.py).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TURNS = 200
_CLOSE = 1e-9


def levelled(places: Sequence[int], rounds: Sequence[int], values: Sequence[float]) -> list[float]:
    """Values as they would be had all rounds had the first one's level.

    `places[i]`: the configuration of run i; `rounds[i]`: its round; `values[i]` > 0. Rounds must
    share configurations to be told apart. Raises ValueError for a value that is not positive.
    """
    if not values:
        return []
    if min(values) <= 0:
        raise ValueError("a value that is not positive has no logarithm")
    logs, where, when = np.log(np.array(values)), np.array(places), np.array(rounds)
    level = np.zeros(when.max() + 1)
    for _ in range(_TURNS):
        own = _means(where, logs - level[when])
        found = _means(when, logs - own[where])
        found -= found[when[0]]
        moved = float(np.abs(found - level).max())
        level = found
        if moved < _CLOSE:
            break
    return [float(value) for value in np.exp(logs - level[when])]


def _means(groups: NDArray[np.int_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each group; 0 for one without values."""
    return np.bincount(groups, values) / np.maximum(np.bincount(groups), 1)
