"""A batch's plan on the command line: what it will take, and whether that will do."""

import re
import sys
import time
from typing import TYPE_CHECKING

from sixfold.cli.batch_progress import dollars, duration
from sixfold.core.errors import ConfigError

if TYPE_CHECKING:
    from sixfold.cli.batch import BatchConfig
    from sixfold.serving.batch.job import Job
    from sixfold.serving.batch.target import Target

_PARTS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_SECONDS = (86400, 3600, 60, 1)
MOST_PROBES = 64


def seconds_of(text: str) -> float:
    """90m, 8h, 1h30m, 45s or a number of seconds; 0 for nothing. Raises ConfigError."""
    found = _PARTS.fullmatch(text.strip())
    if found is None or (text and not any(found.groups())):
        raise ConfigError(f"deadline is {text!r}", "write it as 90m, 8h or 1h30m")
    pairs = zip(found.groups(), _SECONDS, strict=True)
    return float(sum(int(part or 0) * unit for part, unit in pairs))


async def show_plan(job: "Job", target: "Target", wanted: "BatchConfig") -> bool:
    """Print it; whether the deadline holds. Raises SixfoldError."""
    from sixfold.serving.batch.plan import plan, sample, speed

    sampled = sample(job.input, job.defaults)
    made = plan(sampled, await speed(target, sampled.tasks, min(target.places, MOST_PROBES)))
    parts = [
        f"plan: about {made.lines:,} lines, {made.prompt_tokens:,} + at most "
        f"{made.output_tokens:,} tokens",
        f"about {duration(made.seconds)}, until {time.strftime('%H:%M', _then(made.seconds))}",
    ]
    if wanted.price:
        parts.append(f"${made.cost(dollars(wanted.price)):,.4f}")
    deadline = seconds_of(wanted.deadline)
    holds = not deadline or made.holds(deadline)
    if deadline:
        parts.append("the deadline holds" if holds else "the deadline may not hold")
    print(" · ".join(parts), file=sys.stderr)
    return holds


def _then(seconds: float) -> time.struct_time:
    return time.localtime(time.time() + seconds)
