"""Service-level objectives: what "fast enough" means for a workload, parsed and judged.

Clauses (slo_clause.py) are joined by `;`, `,` or `and`, and by `or`, which binds less;
parentheses group: `chat/ttft:p99<=300ms and error_rate<=1% or goodput>=3req/s`. `preset:NAME`
stands for a published objective (slo_presets.py). What was not measured is unknown, and unknown
is never met. Not here: measuring, or the metrics' meaning (metrics.py, metric_names.py).
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeAlias

import msgspec

from sixfold.core.metrics import RequestTrace
from sixfold.core.slo_clause import (
    Clause,
    ClauseJudgement,
    Verdict,
    nearest,
    read_clause,
    refusal,
)
from sixfold.core.slo_presets import PRESETS

Expression: TypeAlias = "Clause | AllOf | AnyOf"

MAX_DEPTH = 50
"""How deep parentheses may nest; more is a mistake, and would overflow the stack."""

# A word joins only if it stands alone: "and/ttft<1" has a class of that name.
_JOINT = re.compile(r"([();,]|(?<![^\s();,])(?:and|or)(?![^\s();,]))", re.IGNORECASE)
_PRESET = re.compile(r"\s*(?:([A-Za-z0-9_.-]+)/)?preset:(.*)", re.DOTALL)


class AllOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="all"):
    """Two or more parts that must all hold. Build it with `all_of`."""

    parts: tuple["Clause | AnyOf", ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or any(isinstance(part, AllOf) for part in self.parts):
            raise ValueError("all of: needs two parts or more, none of them an all-of")

    def __str__(self) -> str:
        return " and ".join(f"({p})" if isinstance(p, AnyOf) else str(p) for p in self.parts)


class AnyOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="any"):
    """Two or more parts of which one must hold. Build it with `any_of`."""

    parts: tuple[Clause | AllOf, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or any(isinstance(part, AnyOf) for part in self.parts):
            raise ValueError("any of: needs two parts or more, none of them an any-of")

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


def all_of(parts: Collection[Expression]) -> Expression:
    """Join at least one part by `and`; nested ones are flattened."""
    flat: list[Clause | AnyOf] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, AllOf) else (part,))
    return flat[0] if len(flat) == 1 else AllOf(tuple(flat))


def any_of(parts: Collection[Expression]) -> Expression:
    """Join at least one part by `or`; nested ones are flattened."""
    flat: list[Clause | AllOf] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, AnyOf) else (part,))
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a run did on an objective: overall, and on each clause in the order written."""

    verdict: Verdict
    clauses: tuple[ClauseJudgement, ...]

    @property
    def met(self) -> bool:
        """Whether the objective surely holds: neither broken nor unknown."""
        return self.verdict == "met"


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An objective: clauses joined by and, or."""

    expression: Clause | AllOf | AnyOf

    def __str__(self) -> str:
        return str(self.expression)

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Every clause, in the order written."""
        return tuple(_clauses(self.expression))

    def keys(self) -> tuple[str, ...]:
        """What must be measured to judge it: each key once."""
        return tuple(dict.fromkeys(clause.key for clause in self.clauses))

    def judge(self, values: Mapping[str, float]) -> Judgement:
        """Judge a run by its numbers in base units, by key. An absent one leaves unknown."""
        return Judgement(
            _verdict(self.expression, values),
            tuple(clause.judge(values) for clause in self.clauses),
        )

    def met_by(self, trace: RequestTrace, slo_class: str = "") -> bool:
        """Whether one request of a class succeeded and keeps the clauses on latencies.

        A clause that can't be asked of it has no say, in `or` neither.
        """
        return trace.ok and _kept(self.expression, trace, slo_class) is not False


def _clauses(expression: Expression) -> Iterator[Clause]:
    if isinstance(expression, Clause):
        yield expression
    else:
        for part in expression.parts:
            yield from _clauses(part)


def _verdict(expression: Expression, values: Mapping[str, float]) -> Verdict:
    """Kleene's logic: unknown stays unless the known parts alone decide."""
    if isinstance(expression, Clause):
        return expression.judge(values).verdict
    verdicts = {_verdict(part, values) for part in expression.parts}
    order: tuple[Verdict, ...] = ("broken", "unknown", "met")
    if isinstance(expression, AnyOf):
        order = ("met", "unknown", "broken")
    return next(verdict for verdict in order if verdict in verdicts)


def _kept(expression: Expression, trace: RequestTrace, slo_class: str) -> bool | None:
    if isinstance(expression, Clause):
        return expression.kept_by(trace, slo_class)
    parts = [_kept(part, trace, slo_class) for part in expression.parts]
    said = [part for part in parts if part is not None]
    if not said:
        return None
    return all(said) if isinstance(expression, AllOf) else any(said)


def parse_slo(text: str) -> Slo:
    """Read "ttft:p95<500ms;itl:p95<10ms": the mean where no statistic is given, ms where no unit.

    Raises ConfigError that names the clause.
    """
    return Slo(_Reader(text).read())


class _Reader:
    """Reads clauses, joints and parentheses, left to right."""

    def __init__(self, text: str, slo_class: str = "") -> None:
        self._text = text
        self._slo_class = slo_class
        words = [word.strip() for word in _JOINT.split(text)]
        self._words = [_joint(word) for word in words if word]
        self._words.reverse()

    def read(self) -> Expression:
        """The whole text as one expression."""
        expression = self._any(0)
        if self._words:
            raise self._fault(f"{self._words[-1]!r} does not belong there")
        return expression

    def _any(self, depth: int) -> Expression:
        return any_of(self._joined("or", lambda: self._all(depth)))

    def _all(self, depth: int) -> Expression:
        return all_of(self._joined("and", lambda: self._part(depth)))

    def _joined(self, joint: str, read: Callable[[], Expression]) -> list[Expression]:
        parts = [read()]
        while self._words and self._words[-1] == joint:
            self._words.pop()
            parts.append(read())
        return parts

    def _part(self, depth: int) -> Expression:
        word = self._words.pop() if self._words else ""
        if word in ("", "and", "or", ")"):
            raise self._fault(f"a clause is missing before {word or 'the end'}")
        return self._group(depth + 1) if word == "(" else self._clause(word)

    def _group(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise self._fault(f"parentheses nest deeper than {MAX_DEPTH}")
        expression = self._any(depth)
        if not self._words or self._words.pop() != ")":
            raise self._fault("a parenthesis is not closed")
        return expression

    def _clause(self, word: str) -> Expression:
        preset = _PRESET.fullmatch(word)
        if preset is not None:
            return _preset(word, preset[2].strip(), preset[1] or self._slo_class)
        clause = read_clause(word)
        slo_class = clause.slo_class or self._slo_class
        return msgspec.structs.replace(clause, slo_class=slo_class)

    def _fault(self, why: str) -> Exception:
        return refusal(self._text, why, "join clauses as in ttft:p95<500ms;itl:p95<10ms")


def _joint(word: str) -> str:
    if word in (";", ",") or word.lower() == "and":
        return "and"
    return "or" if word.lower() == "or" else word


def _preset(clause: str, name: str, slo_class: str) -> Expression:
    if name not in PRESETS:
        raise refusal(clause, f"{name!r} is no preset", nearest(name, PRESETS))
    return _Reader(PRESETS[name].text, slo_class).read()
