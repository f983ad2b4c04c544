"""What to do about a cause at the engine at hand: flags, how to undo them, and what not to do.

Not here: the table (symptoms.py), proving that it helps (validate.py).
"""

from collections.abc import Mapping

import msgspec

from sixfold.instrument.advisor.diagnose import Diagnosis
from sixfold.instrument.advisor.symptoms import Remedy, table
from sixfold.instrument.advisor.window import Setting
from sixfold.instrument.backends.spec import flag_args
from sixfold.strategies import CARDS

STATUS = {card.name: card.status for card in CARDS}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One remedy for the server at hand."""

    remedy: str
    strategy: str
    do: str
    against: str
    """The symptom that it answers."""
    changes: dict[str, Setting] = {}
    """Flags and their new values, ready to apply; empty where there is none to give."""
    flags: str = ""
    """The same as command-line arguments, or in words where the present value is not known."""
    before: dict[str, Setting] = {}
    """What the flags are now, as far as known."""
    undo: str = ""
    verify: str = ""
    side_effects: tuple[str, ...] = ()
    note: str = ""
    """Such as that this engine has no switch for it."""
    do_not: str = ""
    """Why it is no remedy here; empty for one that is."""


def steps(
    diagnosis: Diagnosis,
    known: Mapping[str, float],
    engine: str,
    settings: Mapping[str, Setting],
) -> tuple[Step, ...]:
    """All remedies of all causes, each once: first those to try, then those not to use here."""
    found: dict[str, Step] = {}
    for finding in diagnosis.findings:
        for name in finding.symptom.remedies:
            remedy = table().remedies[name]
            found.setdefault(name, _step(remedy, finding.symptom.id, known, engine, settings))
    useful = [step for step in found.values() if not step.do_not]
    # Those that this engine has a switch for come first; the table's order stays otherwise.
    useful.sort(key=lambda step: not step.flags)
    return (*useful, *(step for step in found.values() if step.do_not))


def _step(
    remedy: Remedy,
    against: str,
    known: Mapping[str, float],
    engine: str,
    settings: Mapping[str, Setting],
) -> Step:
    plain = {name.replace("-", "_"): value for name, value in settings.items()}
    wanted = _applicable(remedy.changes.get(engine, {}), plain)
    changes = {name: new for name, rule in wanted.items() if (new := _new(rule, plain.get(name)))
               is not None}  # fmt: skip
    flags = " ".join(flag_args(changes)) if changes else _in_words(wanted)
    before = {name: plain[name] for name in wanted if name in plain}
    return Step(
        remedy=remedy.id,
        strategy=remedy.strategy,
        do=remedy.do,
        against=against,
        changes=changes,
        flags=flags,
        before=before,
        undo=" ".join(flag_args(before)) or remedy.undo,
        verify=remedy.verify,
        side_effects=remedy.side_effects,
        note=_note(remedy, engine, flags),
        do_not=_do_not(remedy, known, changes, before),
    )


def _applicable(rules: Mapping[str, Setting], plain: Mapping[str, Setting]) -> dict[str, Setting]:
    """Of several flags for one thing, the ones that are set; all where none is."""
    if len(rules) > 1 and (found := {name: rule for name, rule in rules.items() if name in plain}):
        return found
    return dict(list(rules.items())[:1]) if len(rules) > 1 else dict(rules)


def _new(rule: Setting, now: Setting | None) -> Setting | None:
    """The new value; None where it depends on one that is not known."""
    if not isinstance(rule, str) or rule[:1] not in "*/":
        return rule
    if isinstance(now, bool) or not isinstance(now, int | float) or now <= 0:
        return None
    factor = float(rule[1:])
    return max(1, round(now * factor if rule[0] == "*" else now / factor))


def _in_words(wanted: Mapping[str, Setting]) -> str:
    """For a value that is not known."""
    said = {"*": "times what it is", "/": "of what it is"}
    parts = []
    for name, rule in wanted.items():
        text = str(rule)
        amount = text[1:] if text[0] == "*" else f"1/{text[1:]}"
        parts.append(f"--{name.replace('_', '-')} ({amount} {said.get(text[0], '')})")
    return " ".join(parts)


def _note(remedy: Remedy, engine: str, flags: str) -> str:
    if flags or not engine:
        return ""
    if remedy.changes:
        return f"{engine} has no switch for it"
    planned = STATUS.get(remedy.strategy) == "planned" and engine == "sixfold"
    return "planned in this build" if planned else "not a setting of one server"


def _do_not(
    remedy: Remedy,
    known: Mapping[str, float],
    changes: Mapping[str, Setting],
    before: Mapping[str, Setting],
) -> str:
    for rule in remedy.not_if:
        if rule.condition.holds(known):
            return rule.because
    if changes and all(before.get(name) == value for name, value in changes.items()):
        return "it is set so already"
    return ""
