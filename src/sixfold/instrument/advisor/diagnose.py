"""From signals to causes: which rows of the symptom table hold, and when it is better to abstain.

Pure. A row that can't be told, because a signal that decides it is missing, stands in the way of
all rows after it: they are not advised on, and the missing signal is named. Not here: what to do
about a cause (remedies.py), where signals come from (evidence.py).
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from sixfold.core.slo import Slo
from sixfold.instrument.advisor.conditions import all_hold, missing
from sixfold.instrument.advisor.signals import (
    EXCESSES,
    Readings,
    enabling,
    values_of,
)
from sixfold.instrument.advisor.symptoms import EVERYTHING, Symptom, table

State = Literal["healthy", "found", "abstained"]


class Lack(msgspec.Struct, frozen=True):
    """A signal that is missing, and how to get it."""

    signal: str
    enable: str
    hides: str
    """The symptom that could not be told without it."""


class Finding(msgspec.Struct, frozen=True):
    """A cause that was found, with the signals that told it."""

    symptom: Symptom
    signals: tuple[str, ...]


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What is the matter, as far as it can be known."""

    state: State
    broken: bool | None
    """Whether the objective is; None where that can't be told."""
    findings: tuple[Finding, ...] = ()
    """Causes, the first first. Empty unless the state is found."""
    fine: tuple[Symptom, ...] = ()
    lacks: tuple[Lack, ...] = ()
    """Why it abstained; for other states, what could not be ruled out."""
    why: str = ""
    """Of an abstention, in words."""


def diagnose(
    readings: Readings, slo: Slo, engine: str, *, replicas: int = 1, client: bool = False
) -> Diagnosis:
    """Judge signals under an objective. `client`: a benchmark's client measured the latencies."""
    values = values_of(readings)
    broken = objective_broken(values, slo)
    facts = {"replicas": float(replicas), "client_seen": float(client)}
    if broken is not None:
        facts["broken"] = float(broken)
    known = values | facts
    if _client_bound(known):
        return _told(known, engine, broken)
    if broken is False:
        return _healthy(known)
    if broken is None:
        return _unjudged(values, slo, engine)
    return _told(known, engine, broken)


def objective_broken(values: Mapping[str, float], slo: Slo) -> bool | None:
    """Whether a latency is over its limit, or requests fail; None where one is not known."""
    bounded = dict.fromkeys(EXCESSES[c.metric] for c in slo.clauses if c.metric in EXCESSES)
    answers = [values[name] > 1 if name in values else None for name in bounded]
    if values.get("error_share", 0.0) > _errors_allowed(slo):
        return True
    if True in answers:
        return True
    return None if None in answers or not answers else False


def _errors_allowed(slo: Slo) -> float:
    limits = [clause.bound for clause in slo.clauses if clause.metric == "error_rate"]
    return min(limits, default=0.01)


def _client_bound(known: Mapping[str, float]) -> bool:
    return known.get("client_bound", 0.0) >= 1


def _healthy(known: Mapping[str, float]) -> Diagnosis:
    fine = [one for one in table().fine if all_hold(one.conditions, known) is True]
    return Diagnosis(state="healthy", broken=False, fine=tuple(fine))


def _unjudged(values: Mapping[str, float], slo: Slo, engine: str) -> Diagnosis:
    """The objective itself can't be judged."""
    bounded = dict.fromkeys(EXCESSES[c.metric] for c in slo.clauses if c.metric in EXCESSES)
    lacks = [
        Lack(name, enabling(name, engine), "the objective")
        for name in bounded or ("ttft_excess",)
        if name not in values
    ]
    why = "whether the objective is met can't be told"
    return Diagnosis(state="abstained", broken=None, lacks=tuple(lacks), why=why)


def _told(known: Mapping[str, float], engine: str, broken: bool | None) -> Diagnosis:
    findings: list[Finding] = []
    lacks: list[Lack] = []
    explained: set[str] = set()
    for symptom in table().symptoms:
        if symptom.id in explained or EVERYTHING in explained:
            continue
        holds = all_hold(symptom.conditions, known)
        if holds:
            findings.append(Finding(symptom, _signals(symptom)))
            explained |= set(symptom.explains)
        elif holds is None:
            found = _lacking(symptom, known, engine)
            lacks += found
            if not findings and any(lack.signal in symptom.decisive for lack in found):
                why = f"it may be this: {symptom.title.lower()}"
                return Diagnosis(state="abstained", broken=broken, lacks=tuple(found), why=why)
    if findings:
        return Diagnosis(state="found", broken=broken, findings=tuple(findings), lacks=tuple(lacks))
    why = "the objective is broken, and no cause that is known shows in what was seen"
    return Diagnosis(state="abstained", broken=broken, lacks=tuple(lacks), why=why)


def _signals(symptom: Symptom) -> tuple[str, ...]:
    names = (name for condition in symptom.conditions for name in condition.signals)
    return tuple(dict.fromkeys(names))


def _lacking(symptom: Symptom, known: Mapping[str, float], engine: str) -> list[Lack]:
    return [
        Lack(name, enabling(name, engine), symptom.id)
        for name in missing(symptom.conditions, known)
        if name not in ("broken", "replicas", "client_seen")
    ]
