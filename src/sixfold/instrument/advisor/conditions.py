"""Conditions of the symptom table, such as `kv_usage_max >= 0.9`, over signals that may be missing.

Three-valued (Kleene, 1952): a condition on a signal that was not measured is unknown, and unknown
is never taken for true or false. Not here: what the signals are (signals.py), the table itself
(symptoms.py).
"""

import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from sixfold.core.errors import ConfigError

_FORM = re.compile(
    r"\s*([a-z][a-z0-9_]*)\s*(<=|>=|<|>)\s*(?:(\d+(?:\.\d+)?)\s*(?:\*\s*)?)?([a-z][a-z0-9_]*)?\s*\Z"
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`signal sign factor * other`; without `other`, the factor is the limit."""

    signal: str
    sign: str
    factor: float
    other: str = ""

    def __str__(self) -> str:
        limit = f"{self.factor:g}" if not self.other or self.factor != 1 else ""
        parts = [part for part in (limit, self.other) if part]
        return f"{self.signal} {self.sign} {' * '.join(parts)}"

    @property
    def signals(self) -> tuple[str, ...]:
        """What it needs."""
        return (self.signal, self.other) if self.other else (self.signal,)

    def holds(self, values: Mapping[str, float]) -> bool | None:
        """Whether it is so; None where a signal is missing."""
        if any(name not in values for name in self.signals):
            return None
        limit = self.factor * (values[self.other] if self.other else 1.0)
        return _COMPARE[self.sign](values[self.signal], limit)


def parse_condition(text: str, known: Iterable[str]) -> Condition:
    """Read one. Raises ConfigError for a malformed one, or for a signal that is not `known`."""
    found = _FORM.match(text)
    if found is None or (found[3] is None and found[4] is None):
        raise ConfigError(f"{text!r} is no condition", "such as: waiting_mean >= 1")
    condition = Condition(found[1], found[2], float(found[3] or 1), found[4] or "")
    for name in condition.signals:
        if name not in known:
            raise ConfigError(f"{text!r}: there is no signal {name!r}", "see signals.py")
    return condition


class Either(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions of which one must hold: `prefill_time >= 0.5 or prefill_share >= 0.9`."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))

    @property
    def signals(self) -> tuple[str, ...]:
        """What all parts need."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.signals))

    def holds(self, values: Mapping[str, float]) -> bool | None:
        """True if one does; else None where one is not known."""
        answers = [part.holds(values) for part in self.parts]
        if True in answers:
            return True
        return None if None in answers else False


Rule = Condition | Either


def parse_rule(text: str, known: Iterable[str]) -> Rule:
    """A condition, or several joined by `or`. Raises ConfigError."""
    parts = tuple(parse_condition(part, known) for part in text.split(" or "))
    return parts[0] if len(parts) == 1 else Either(parts)


def all_hold(conditions: Iterable[Rule], values: Mapping[str, float]) -> bool | None:
    """Whether all hold: False if one surely does not, else None if one is not known."""
    answers = [condition.holds(values) for condition in conditions]
    if False in answers:
        return False
    return None if None in answers else True


def missing(conditions: Iterable[Rule], values: Mapping[str, float]) -> tuple[str, ...]:
    """Signals that the answer would need: of the conditions that are not known."""
    unknown = (condition for condition in conditions if condition.holds(values) is None)
    needed = (name for condition in unknown for name in condition.signals)
    return tuple(dict.fromkeys(name for name in needed if name not in values))
