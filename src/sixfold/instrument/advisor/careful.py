"""A little load on a server that we did not start, with consent: capped, and ended when it hurts.

The rate goes up in steps to the cap; the first step that breaks the objective is the last, and what
it saw is what advice is given on. Not here: consent (cli), the load (measure.py).
"""

from collections.abc import Callable
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.loadgen.arrivals import gamma
from sixfold.instrument.measure import Job

SHARES = (0.25, 0.5, 1.0)
"""Of the cap, one after the other."""
MAX_RATE = 20.0
"""Sessions per second; more is a load test, which `sixfold bench` is for."""
SECONDS = 15.0
"""Of a step."""


def steps_of(job: Job, cap: float) -> list[Job]:
    """A job for each step, with prompts of its own. Raises ConfigError for a cap out of bounds."""
    if not 0 < cap <= MAX_RATE:
        raise ConfigError(f"--max-rate is {cap:g}", f"over 0 and at most {MAX_RATE:g} per second")
    found = []
    for number, share in enumerate(SHARES):
        rate = cap * share
        config: Any = job.workload.config
        if hasattr(config, "count"):
            config = msgspec.structs.replace(config, count=max(2, round(rate * SECONDS)))
        found.append(
            msgspec.structs.replace(
                job,
                workload=msgspec.structs.replace(job.workload, config=config),
                load=gamma(rate, 1.0, job.seed + number),
                seed=job.seed + (number << 20),
                limits=msgspec.structs.replace(job.limits, seconds=2 * SECONDS),
            )
        )
    return found


def raised(job: Job, cap: float, run: Callable[[Job], Point], tell: Callable[[str], None]) -> Point:
    """The point of the last step sent: the first that broke the objective, or the cap's."""
    assert job.slo is not None
    for step in steps_of(job, cap):
        assert not isinstance(step.load, int)
        point = run(step)
        met = job.slo.judge(point.values).met and point.status == "ok"
        tell(f"{step.load.rate:.3g} sessions/s: objective {'met' if met else 'broken'}")
        if not met:
            break
    return point
