"""The symptom table and the remedies, read from their TOML files and checked.

Not here: what follows from them for a server at hand (diagnose.py, remedies.py).
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.conditions import Condition, Rule, parse_condition, parse_rule
from sixfold.instrument.advisor.signals import SIGNALS
from sixfold.instrument.advisor.window import Setting
from sixfold.strategies import CARDS, ENGINES

HERE = Path(__file__).parent
FACTS = ("broken", "replicas", "client_seen")
"""Always known, beside the signals: whether the objective is broken (where it can be told), how
many replicas were looked at, and whether a benchmark's client looked."""
EVERYTHING = "*"


class Symptom(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    id: str
    title: str
    conditions: tuple[Rule, ...]
    decisive: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    cause: str = ""
    remedies: tuple[str, ...] = ()
    source: str = ""


class NotIf(msgspec.Struct, frozen=True):
    """When a remedy is none, and why."""

    condition: Condition
    because: str


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do."""

    id: str
    strategy: str
    """Name of a card; empty for what is no strategy."""
    do: str
    verify: str
    undo: str
    side_effects: tuple[str, ...]
    not_if: tuple[NotIf, ...]
    changes: dict[str, dict[str, Setting]]
    """Engine -> flag -> new value, or "*2" and "/2" of what is set."""


class Table(msgspec.Struct, frozen=True):
    """All of it."""

    symptoms: tuple[Symptom, ...]
    fine: tuple[Symptom, ...]
    remedies: Mapping[str, Remedy]


@cache
def table() -> Table:
    """The shipped table. Raises ConfigError for a mistake in it: a test reads it."""
    told = tomllib.loads((HERE / "symptoms.toml").read_text("utf-8"))
    helps = tomllib.loads((HERE / "remedies.toml").read_text("utf-8"))
    remedies = {name: _remedy(name, fields) for name, fields in helps.items()}
    symptoms = tuple(_symptom(fields) for fields in told["symptom"])
    _check(symptoms, remedies)
    return Table(symptoms, tuple(_symptom(fields) for fields in told["fine"]), remedies)


def _condition(text: str) -> Condition:
    return parse_condition(text, (*SIGNALS, *FACTS))


def _symptom(fields: dict[str, Any]) -> Symptom:
    known = set(Symptom.__struct_fields__) - {"conditions"} | {"all"}
    if wrong := set(fields) - known:
        raise ConfigError(f"symptom {fields.get('id')}: unknown keys {sorted(wrong)}")
    conditions = tuple(parse_rule(text, (*SIGNALS, *FACTS)) for text in fields["all"])
    needed = {name for condition in conditions for name in condition.signals}
    decisive = tuple(fields.get("decisive", ()))
    if not set(decisive) <= needed:
        raise ConfigError(f"symptom {fields['id']}: a decisive signal is in no condition")
    return Symptom(
        id=fields["id"],
        title=fields["title"],
        conditions=conditions,
        decisive=decisive,
        explains=tuple(fields.get("explains", ())),
        cause=fields.get("cause", ""),
        remedies=tuple(fields.get("remedies", ())),
        source=fields.get("source", ""),
    )


def _remedy(name: str, fields: dict[str, Any]) -> Remedy:
    engines = {engine: fields[engine] for engine in ENGINES if engine in fields}
    rules = tuple(
        NotIf(_condition(one["when"]), one["because"]) for one in fields.get("not_if", ())
    )
    texts = ("strategy", "do", "verify", "undo", "side_effects", "not_if")
    if wrong := set(fields) - set(texts) - set(engines):
        raise ConfigError(f"remedy {name}: unknown keys {sorted(wrong)}")
    return Remedy(
        id=name,
        strategy=fields["strategy"],
        do=fields["do"],
        verify=fields["verify"],
        undo=fields["undo"],
        side_effects=tuple(fields["side_effects"]),
        not_if=rules,
        changes=engines,
    )


def _check(symptoms: tuple[Symptom, ...], remedies: Mapping[str, Remedy]) -> None:
    ids = {symptom.id for symptom in symptoms}
    cards = {card.name for card in CARDS}
    for symptom in symptoms:
        if wrong := set(symptom.explains) - ids - {EVERYTHING}:
            raise ConfigError(f"symptom {symptom.id} explains unknown {sorted(wrong)}")
        if wrong := set(symptom.remedies) - set(remedies):
            raise ConfigError(f"symptom {symptom.id} names unknown remedies {sorted(wrong)}")
    for remedy in remedies.values():
        if remedy.strategy and remedy.strategy not in cards:
            raise ConfigError(f"remedy {remedy.id}: no card is called {remedy.strategy!r}")
