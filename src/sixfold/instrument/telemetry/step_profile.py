"""Where the steps of our own engine go: its counters before and after a load, as a table.

Not here: keeping them (engine/engine.py, native/pool.h), the metrics page (serving/server).
"""

from urllib.parse import urlsplit

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.fetch import fetch
from sixfold.instrument.backends.scrape import parse
from sixfold.instrument.backends.spec import Request

TIMEOUT = 5.0
SECONDS, STEPS = "sixfold:step_seconds_total", "sixfold:steps_total"
PARTS = {
    "gemm": "linear layers",
    "attention": "attention",
    "head": "output projection",
    "sampling": "sampling",
    "other": "norms, RoPE, packing",
    "draft": "guessing tokens",
    "offload": "loading offloaded blocks",
    "wait": "waiting for other threads",
    "python": "Python: scheduler, text, messages",
}


class StepCounters(msgspec.Struct, frozen=True):
    """What the page says: steps so far, and the seconds that they took, by part."""

    steps: float
    seconds: dict[str, float]


def read_counters(url: str) -> StepCounters:
    """Of the server at `url`. Raises ConfigError where it tells none: it is not ours."""
    page_url = f"{url.rstrip('/').removesuffix('/v1')}/metrics"
    try:
        _, body = fetch(page_url, Request("GET", urlsplit(page_url).path), TIMEOUT)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{page_url} does not answer: {error}", "is it running?") from None
    page = parse(body)
    parts = {one.labels.get("part", ""): one.value for one in page.samples.get(SECONDS, ())}
    if not parts:
        hint = "other engines do not tell: leave out --profile"
        raise ConfigError(f"{page_url} has no {SECONDS}", hint)
    return StepCounters(sum(s.value for s in page.samples.get(STEPS, ())), parts)


def profile_lines(before: StepCounters, after: StepCounters) -> list[str]:
    """Per part its share and its time per step; the heaviest first."""
    steps = after.steps - before.steps
    spent = {part: max(0.0, s - before.seconds.get(part, 0.0)) for part, s in after.seconds.items()}
    total = sum(spent.values())
    if steps <= 0 or total <= 0:
        return ["no step was run"]
    lines = [f"{steps:.0f} steps of {1e3 * total / steps:.3g} ms while there was work:"]
    for part, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        each = f"{1e3 * seconds / steps:8.3f} ms"
        lines.append(f"  {PARTS.get(part, part):<34}{seconds / total:7.1%}{each}")
    return lines
