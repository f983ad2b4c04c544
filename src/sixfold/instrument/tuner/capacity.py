"""The highest load that a server carries under objectives: a bracket over real runs.

Not here: which load is asked next (bracket.py), running it.
"""

import math
from collections.abc import Callable

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.loadgen.arrivals import Arrivals
from sixfold.instrument.measure import Job
from sixfold.instrument.tuner.bracket import Bracket, BracketPlan, BracketResult

MOST_RUNS = 16
TOLERANCE = 0.1
MOST_SESSIONS = 4096.0


def capacity_plan(load: Arrivals | int) -> BracketPlan:
    """From the load that was asked for: a rate, or a whole number of sessions at once.

    Raises ConfigError for a load that can't be raised, such as the times of a trace.
    """
    if isinstance(load, int):
        return BracketPlan(
            start=float(load),
            highest=max(MOST_SESSIONS, float(load)),
            whole=True,
            tolerance=TOLERANCE,
            max_runs=MOST_RUNS,
        )
    if load.kind not in ("gamma", "constant"):
        raise ConfigError(
            f"the load of a {load.kind} has no one rate to raise", "give --rate or --concurrency"
        )
    return BracketPlan(start=load.rate, growth=1.5, tolerance=TOLERANCE, max_runs=MOST_RUNS)


def raised(job: Job, to: float) -> Job:
    """The same job at another rate, or with as many sessions at once, for about as long.

    Workloads that are made up get more sessions in proportion; files have those that they have.
    """
    if isinstance(job.load, int):
        load: Arrivals | int = round(to)
        share = to / job.load
    else:
        load = msgspec.structs.replace(job.load, rate=to)
        share = to / job.load.rate
    count = getattr(job.workload.config, "count", None)
    if not isinstance(count, int):
        return msgspec.structs.replace(job, load=load)
    config = msgspec.structs.replace(job.workload.config, count=max(1, math.ceil(count * share)))
    workload = msgspec.structs.replace(job.workload, config=config)
    return msgspec.structs.replace(job, load=load, workload=workload)


def check_capacity(job: Job) -> None:
    """Refuse before anything runs. Raises ConfigError without objectives, or as `capacity_plan`."""
    if job.slo is None:
        raise ConfigError("a highest load needs objectives to keep", 'give --slo "ttft:p95<1s"')
    capacity_plan(job.load)


def find_capacity(run: Callable[[Job], Point], job: Job) -> BracketResult:
    """Run loads until the limit lies within a tenth; a failed run misses, as does an unknown value.

    `run` gives every run prompts of its own. Raises ConfigError as `check_capacity`.
    """
    check_capacity(job)
    assert job.slo is not None
    bracket = Bracket(capacity_plan(job.load))
    while (asked := bracket.ask()) is not None:
        point = run(raised(job, asked))
        bracket.tell(asked, point.status == "ok" and job.slo.judge(point.values).met)
    return bracket.result()


def capacity_words(result: BracketResult, load: Arrivals | int) -> str:
    """ "11.2 req/s (misses at 12.4)", and what keeps it from being exact."""
    unit = "at once" if isinstance(load, int) else "sessions/s"
    if result.passing is None:
        words = f"none: misses already at {result.failing:.3g} {unit}"
    else:
        missed = "no miss found" if result.failing is None else f"misses at {result.failing:.3g}"
        words = f"{result.passing:.3g} {unit} ({missed})"
    doubts = [] if result.converged else ["more runs would narrow it"]
    doubts += [] if result.monotone else ["a higher load passed: noisy"]
    return "; ".join([words, *doubts])
