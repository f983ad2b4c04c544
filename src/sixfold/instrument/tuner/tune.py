"""The tuner's story: baseline, search, finals against the baseline, confirmation on new prompts.

Every run is appended to the store as it ends. A study that is begun again under the same name asks
the same questions in the same order, and takes from the store what it has: so a kill costs the run
that was on its way, and nothing runs twice. Not here: what is asked next (a Tuner of trial.py),
running it (a runner), words for the result (tell.py).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log
from statistics import median
from typing import Protocol

import msgspec

from sixfold.core.point import Point
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.measure import Job
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.bracket import BracketResult
from sixfold.instrument.tuner.capacity import find_capacity
from sixfold.instrument.tuner.outcome import (
    Price,
    Tried,
    best,
    config_key,
    lower_is_better,
    prices,
    trial_result,
    tried,
)
from sixfold.instrument.tuner.runner import PlannedRun
from sixfold.instrument.tuner.surrogate import pooled_noise
from sixfold.instrument.tuner.trial import Tuner
from sixfold.instrument.tuner.verdict import CallRules, Comparison, compare, pair_order

Config = Mapping[str, Scalar]
MakeTuner = Callable[[float], Tuner]
"""A search, from the noise floor: the coefficient of variation of one run."""
PRIOR_NOISE = 0.03
FINALS = 0.4
"""The part of a budget that finals are kept room for, at most."""
CONFIRM_SEED = 1 << 30
"""Seeds from here on are for confirmation: no search ever sends their prompts."""
CAPACITY_SEED = 1 << 31
"""Seeds from here on are for loads other than the one that is tuned for."""


class TrialRunner(Protocol):
    """Runs one trial."""

    def run(self, trial: PlannedRun, job: Job) -> Point:
        """The point of a run; failures are points."""
        ...


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What is tuned, for what."""

    name: str
    spec: EngineSpec
    """The engine with the flags of the baseline, which the search adds to."""
    job: Job
    objective: str = "goodput"
    """The metric's key that is made best."""
    seconds: float = 300.0
    """Budget of wall time; finals are kept room for."""
    rules: CallRules = CallRules()
    """When the finals may call, and with which error."""
    noise_runs: int = 3
    """Runs of the baseline before all else: the noise floor."""
    find_load: bool = False
    """Find the highest load that baseline and winner carry, after the budget."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a study. Finals are pairs in turn, on prompts that the search did not see."""

    baseline: Tried
    winner: Tried | None
    """By the search; None: nothing met the objectives. Its finals may yet speak against it."""
    final_baseline: tuple[Point, ...] = ()
    final_winner: tuple[Point, ...] = ()
    comparison: Comparison | None = None
    """The finals' call; None without finals, or where a final had nothing to compare."""
    prices: tuple[Price, ...] = ()
    noise: float = PRIOR_NOISE
    """Coefficient of variation of one run of the baseline, as the search was told."""
    capacity: tuple[BracketResult, ...] = ()
    """With find_load: of the baseline, and of the winner where that is another."""
    runs: int
    """All runs, those taken from the store included."""
    resumed: int
    """Runs taken from the store."""
    configurations: int
    """Tried by the search."""
    refused: int = 0
    """Of these: lossy ones that the quality check kept from winning."""


class _Book:
    """Runs trials, or finds them in the store; keeps count."""

    def __init__(self, study: Study, store: Store, runner: TrialRunner) -> None:
        self._study = study
        self._store = store
        self._runner = runner
        self._known = {point.id: point for _, point in store.points(study.name)}
        self._repeats: dict[tuple[str, int], int] = {}
        self.points: list[Point] = []
        self.resumed = 0
        self._took: list[float] = []

    @property
    def typical(self) -> float:
        """Seconds that a run takes, its server's start included: the median."""
        return median(self._took) if self._took else 0.0

    def run(self, config: Config, first_seed: int = 0, job: Job | None = None) -> Point:
        """The next repeat of a configuration, with prompts of its own; of another job, if given."""
        flags = self._study.spec.flags | dict(config)
        name = (config_key(flags), first_seed)
        repeat = self._repeats.get(name, 0)
        self._repeats[name] = repeat + 1
        trial = PlannedRun(
            study=self._study.name,
            spec=msgspec.structs.replace(self._study.spec, flags=flags),
            repeat=repeat + first_seed,
        )
        seed = self._study.job.seed + first_seed + repeat
        job = msgspec.structs.replace(job or self._study.job, seed=seed)
        point = self._known.get(trial.id(job))
        if point is None:
            began = time.monotonic()
            point = self._runner.run(trial, job)
            self._took.append(time.monotonic() - began)
            self._store.append([point])
        else:
            self.resumed += 1
        self.points.append(point)
        return point


def tune(
    study: Study,
    make_tuner: MakeTuner,
    store: Store,
    runner: TrialRunner,
    tell: Callable[[Point, float], None],
) -> Found:
    """Run a study to its end, or to the end of its budget; what was found.

    `tell` hears of each point and of the part of the budget that is spent.
    """
    end = time.monotonic() + study.seconds
    book = _Book(study, store, runner)

    def told(point: Point) -> Point:
        tell(point, 1 - (end - time.monotonic()) / study.seconds)
        return point

    first = [told(book.run({})) for _ in range(study.noise_runs)]
    noise = noise_floor(first, study.objective)
    tuner = make_tuner(noise)
    most = study.seconds * FINALS
    while True:
        # While nothing is feasible there is nothing to keep room for.
        room = min(2 * study.rules.last * book.typical, most) if tuner.best() else 0.0
        if time.monotonic() + room >= end:
            break
        trial = tuner.ask()
        if trial is None:
            break
        point = told(book.run(trial.config))
        tuner.tell(trial, trial_result(point, study.job.slo, study.objective))
    groups = tried(book.points)
    winner = _winner(study, tuner, groups)
    finals = _finals(study, book, (groups[0], winner), end, told)
    return Found(
        baseline=groups[0],
        winner=winner,
        final_baseline=tuple(ours for ours, _ in finals),
        final_winner=tuple(theirs for _, theirs in finals),
        comparison=_compared(study, finals),
        prices=tuple(prices(groups, study.job.slo, study.objective)),
        noise=noise,
        capacity=tuple(_capacities(study, book, (groups[0], winner), told)),
        runs=len(book.points),
        resumed=book.resumed,
        configurations=len(groups),
        refused=sum(bool(one.worse) for one in groups),
    )


def noise_floor(points: Sequence[Point], objective: str) -> float:
    """Coefficient of variation of one run, from repeats of one configuration and a prior."""
    scores = [log(v) for point in points if (v := point.values.get(objective, 0.0)) > 0]
    return min(0.5, pooled_noise({0: scores} if scores else {}, PRIOR_NOISE))


def _capacities(
    study: Study,
    book: _Book,
    rivals: tuple[Tried, Tried | None],
    told: Callable[[Point], Point],
) -> Iterator[BracketResult]:
    """The highest load that each carries."""
    if not study.find_load:
        return
    baseline, winner = rivals
    configs: list[Config] = [{}]
    if winner is not None and winner.key != baseline.key:
        configs.append(winner.points[0].config)
    for config in configs:

        def run(job: Job, config: Config = config) -> Point:
            return told(book.run(config, CAPACITY_SEED, job))

        yield find_capacity(run, study.job)


def _winner(study: Study, tuner: Tuner, groups: Sequence[Tried]) -> Tried | None:
    """The search's pick, which no one lucky run decides, unless the baseline's mean is better."""
    pick = tuner.best()
    flags = study.spec.flags | (pick.config if pick is not None else {})
    keys = {groups[0].key, config_key(flags)}
    return best([one for one in groups if one.key in keys], study.job.slo, study.objective)


def _finals(
    study: Study,
    book: _Book,
    rivals: tuple[Tried, Tried | None],
    end: float,
    told: Callable[[Point], Point],
) -> list[tuple[Point, Point]]:
    """Baseline and winner in turn, on prompts that are new to both, until the call is made.

    At least up to the first look; no further once the budget is over.
    """
    baseline, winner = rivals
    if winner is None or winner.key == baseline.key:
        return []
    chosen: Config = winner.points[0].config
    pairs: list[tuple[Point, Point]] = []
    first_look = min(look.pairs for look in study.rules.looks)
    for winner_first in pair_order(study.rules.last, study.job.seed):
        if len(pairs) >= first_look and time.monotonic() >= end:
            break
        order: list[Config] = [chosen, {}] if winner_first else [{}, chosen]
        pair = [told(book.run(config, CONFIRM_SEED)) for config in order]
        pairs.append((pair[1], pair[0]) if winner_first else (pair[0], pair[1]))
        comparison = _compared(study, pairs)
        if comparison is not None and comparison.final:
            break
    return pairs


def _compared(study: Study, pairs: Sequence[tuple[Point, Point]]) -> Comparison | None:
    """The call on pairs of (baseline, winner); None while there are too few, or nothing to call."""
    scores = [tuple(point.values.get(study.objective, 0.0) for point in pair) for pair in pairs]
    if len(scores) < 2 or any(min(pair) <= 0 for pair in scores):
        return None
    before, after = zip(*scores, strict=True)
    return compare(before, after, lower_is_better(study.objective), study.rules)
