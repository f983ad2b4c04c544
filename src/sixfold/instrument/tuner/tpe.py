"""Optuna's TPE under our ask-and-tell protocol: `pip install "sixfold[tune]"`.

Bergstra et al. (2011). Imports optuna only when a search is made. Not here: our own search
(search.py), which finds more with the same runs.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from math import log, prod
from typing import Any

from sixfold.core.errors import ConfigError
from sixfold.instrument.tuner.space import Parameter, Scalar, space_of
from sixfold.instrument.tuner.trial import Ledger, Trial, TrialResult

WORST = -30.0
"""Value of a failure, in log-scores: below any that is real."""


def installed() -> bool:
    """Whether there is an optuna."""
    return find_spec("optuna") is not None


class TpeSearch:
    """Values by their places: whole numbers where they are ordered, categories elsewhere.

    An infeasible run is told as worse than any feasible one, by its violation. The pick is the best
    mean of runs, as for random search.
    """

    def __init__(self, configurations: Sequence[dict[str, Scalar]], budget: int, seed: int) -> None:
        if not installed():
            raise ConfigError("optuna is not installed here", 'pip install "sixfold[tune]"')
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._ledger = Ledger(configurations, budget)
        self._parameters = [p for p in space_of(configurations).parameters
                            if isinstance(p, Parameter)]  # fmt: skip
        if prod(len(p.values) for p in self._parameters) != len(configurations):
            raise ConfigError("TPE takes whole products of values only", "--search auto takes any")
        self._places = {self._key(config): i for i, config in enumerate(configurations)}
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study: Any = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: tuple[Trial, Any] | None = None

    def ask(self) -> Trial | None:
        """The next run; None when the budget is spent."""
        if self._ledger.left <= 0:
            return None
        if self._asked is None:
            theirs = self._study.ask()
            config = {p.name: p.values[self._index(theirs, p)] for p in self._parameters}
            self._asked = self._ledger.trial(self._places[self._key(config)]), theirs
        return self._asked[0]

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Note the result of the trial that was asked for."""
        assert self._asked is not None, "ask first"
        self._ledger.add(trial, result)
        value = WORST - (1.0 if result.failure else max(result.violation, 0.0))
        if result.feasible and result.score:
            value = log(result.score)
        self._study.tell(self._asked[1], value)
        self._asked = None

    def best(self) -> Trial | None:
        """The highest mean of runs."""
        return self._ledger.best_mean()

    def _index(self, theirs: Any, parameter: Parameter) -> int:
        last = len(parameter.values) - 1
        if parameter.ordered:
            return int(theirs.suggest_int(parameter.name, 0, last))
        return int(theirs.suggest_categorical(parameter.name, list(range(last + 1))))

    def _key(self, config: dict[str, Scalar]) -> tuple[Scalar, ...]:
        return tuple(config[p.name] for p in self._parameters)
