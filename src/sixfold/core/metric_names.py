"""The metrics by name: unit, better direction, statistics, meaning. The one table of them.

Objectives, reports and pages read it. Not here: how a metric is computed (metrics.py), bounds on
one (slo.py).
"""

from decimal import Decimal
from typing import Literal

import msgspec

Kind = Literal["time", "token rate", "request rate", "ratio", "money", "count"]

UNITS: dict[Kind, dict[str, Decimal]] = {
    "time": {
        "ms": Decimal("0.001"),
        "us": Decimal("0.000001"),
        "s": Decimal(1),
        "m": Decimal(60),
        "": Decimal("0.001"),
    },
    "token rate": {"tok/s": Decimal(1), "": Decimal(1)},
    "request rate": {"req/s": Decimal(1), "": Decimal(1)},
    "ratio": {"%": Decimal("0.01"), "": Decimal(1)},
    "money": {"$": Decimal(1), "": Decimal(1)},
    "count": {"": Decimal(1)},
}
"""What a written unit is worth in the kind's base unit; "" is a number without a unit."""

BASE_UNITS: dict[Kind, str] = {
    "time": "s",
    "token rate": "tok/s",
    "request rate": "req/s",
    "ratio": "",
    "money": "$",
    "count": "",
}
"""The unit that values are held in."""


class Metric(msgspec.Struct, frozen=True):
    """One metric. `has_stats`: it is a distribution, of which a mean or a percentile is taken."""

    name: str
    kind: Kind
    meaning: str
    lower_is_better: bool
    has_stats: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The unit that its values are held in; "" for a ratio (a fraction) and a count."""
        return BASE_UNITS[self.kind]


def _time(name: str, meaning: str, *aliases: str) -> Metric:
    return Metric(name, "time", meaning, True, True, aliases)


_TABLE = (
    _time("ttft", "time to first token: from sending a request to its first output token"),
    _time("tpot", "time per output token: a request's mean over the tokens after the first"),
    _time("itl", "inter-token latency: every gap between neighbouring output tokens"),
    _time("e2e", "end-to-end latency: from sending a request to its answer's end", "e2e_latency"),
    _time("queue", "from sending a request to its first scheduled step"),
    Metric("input_throughput", "token rate", "prompt tokens per second of the run", False),
    Metric(
        "output_throughput",
        "token rate",
        "output tokens per second of the run",
        False,
        aliases=("throughput",),
    ),
    Metric("total_throughput", "token rate", "prompt and output tokens per second", False),
    Metric("request_throughput", "request rate", "requests that succeeded, per second", False),
    Metric("goodput", "request rate", "requests per second that kept their objectives", False),
    Metric("error_rate", "ratio", "requests that failed, as a part of all", True),
    Metric("cached_rate", "ratio", "prompt tokens found in the prefix cache, of all", False),
    Metric("acceptance_rate", "ratio", "drafted tokens that were accepted, of all", False),
    Metric("kv_usage", "ratio", "KV cache blocks in use at the peak, of all", True),
    Metric("cost", "money", "dollars per million output tokens", True),
    Metric("preemptions", "count", "times a request lost its blocks and began anew", True),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}
"""Every metric by its own name."""

NAMES: dict[str, Metric] = METRICS | {alias: m for m in _TABLE for alias in m.aliases}
"""Every metric by every name that it may be written with."""
