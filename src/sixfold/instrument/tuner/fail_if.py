"""Limits for CI: "ttft:p95 > +5%" fails a change that is surely that much worse.

Judged against the interval of a comparison, so that noise neither fails nor passes a change. Not
here: the comparison (verdict.py), absolute bounds (core/slo.py).
"""

import math
import re
from typing import Literal

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.slo_clause import read_clause
from sixfold.instrument.tuner.verdict import Comparison

_FORM = re.compile(r"([^<>=]+?)\s*(>|<)\s*([+-]?)\s*(\d+\.?\d*|\.\d+)\s*%")
_HINT = "write it as ttft:p95 > +5% or output_throughput < -3%"


class FailIf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fails where the metric changed by more (>) or less (<) than `change`, a fraction."""

    key: str
    """The number's name, as objectives spell it: "ttft:p95"."""
    op: Literal["<", ">"]
    change: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.change) and self.change > -1):
            raise ConfigError("nothing falls by the whole or more", _HINT)

    def __str__(self) -> str:
        return f"{self.key} {self.op} {self.change * 100:+.10g}%"

    def judge(self, comparison: Comparison) -> Literal["pass", "fail", "unsure"]:
        """Whether the whole interval is beyond the limit, or within, or neither."""
        limit = 1 + self.change
        if self.op == ">":
            surely, never = comparison.low > limit, comparison.high <= limit
        else:
            surely, never = comparison.high < limit, comparison.low >= limit
        return "fail" if surely else "pass" if never else "unsure"


def parse_fail_if(text: str) -> tuple[FailIf, ...]:
    """Read limits that are joined by `;` or `,`. Raises ConfigError that names the one."""
    parts = [part.strip() for part in re.split(r"[;,]", text)]
    if not any(parts):
        raise ConfigError("fail-if says nothing", _HINT)
    return tuple(_read(part) for part in parts if part)


def _read(part: str) -> FailIf:
    match = _FORM.fullmatch(part)
    if match is None:
        raise ConfigError(f"can't read the limit {part!r}", _HINT)
    name, op, sign, number = match.groups()
    if not sign and float(number):
        hint = f"write +{number}% for a rise, -{number}% for a fall"
        raise ConfigError(f"{part!r} does not say whether it rises or falls", hint)
    key = read_clause(f"{name}>0").key
    change = float(number) / 100
    return FailIf(key, "<" if op == "<" else ">", -change if sign == "-" else change)
