"""Strategy cards can't rot: every path, test, benchmark and flag that one names must exist.

Nor may they leave a constraint or a symptom with a single answer, or none.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from checks.tree import ROOT, Finding

if TYPE_CHECKING:
    from sixfold.strategies import Card

PLACE = "src/sixfold/strategies"
BENCHMARK = "benchmarks/strategies.py"
CASES = "benchmarks/strategy_cases.py"
FEWEST = 2
"""Techniques that a constraint or a symptom must have, so that there is a choice."""


def check_cards() -> Iterator[Finding]:
    """Every card's faults. Paths are resolved in the source: what they name is not imported."""
    from sixfold.strategies import CARDS

    flags, cases = serve_flags(), measured_cases()
    for card in CARDS:
        faults = [*place_faults(card), *built_faults(card), *knob_faults(card, flags)]
        faults += use_faults(card)
        if (card.benchmark == BENCHMARK) != (card.name in cases):
            faults.append(f"has a case in {CASES} or {BENCHMARK} as its benchmark, but not both")
        yield from (Finding(PLACE, 1, f"{card.name}: {fault}") for fault in faults)
    for name in sorted(cases - {card.name for card in CARDS}):
        yield Finding(CASES, 1, f"{name}: there is no such card")
    yield from (Finding(PLACE, 1, fault) for fault in choice_faults(CARDS))


def place_faults(card: "Card") -> Iterator[str]:
    """Paths that lead nowhere."""
    if card.implemented is not None and not resolves(card.implemented):
        yield f"implemented: {card.implemented} is not there"
    if card.equality_test is not None and not has_test(card.equality_test):
        yield f"equality_test: {card.equality_test} is not there"
    if card.benchmark is not None and not (ROOT / card.benchmark).is_file():
        yield f"benchmark: {card.benchmark} is not there"


def built_faults(card: "Card") -> Iterator[str]:
    """What a strategy owes once it is built."""
    if card.implemented is None:
        return
    knob = card.knobs.get("sixfold")
    if card.equality_test is None or knob is None:
        yield "is built, but has no equality test or no knob"
    if knob is not None and knob.off is not None and card.benchmark is None:
        yield "can be turned off, but no benchmark measures it on against off"


def knob_faults(card: "Card", flags: set[str]) -> Iterator[str]:
    """Engines and flags that there are not."""
    from sixfold.strategies import ENGINES

    if not set(card.knobs) <= set(ENGINES):
        yield f"names an engine that is none of {', '.join(ENGINES)}"
    knob = card.knobs.get("sixfold")
    arguments = f"{knob.on} {knob.off or ''}".split() if knob else []
    for argument in arguments:
        if argument.startswith("--") and argument not in flags:
            yield f"knob: serve has no {argument}"


def use_faults(card: "Card") -> Iterator[str]:
    """Constraints, symptoms and stages that there are not, and texts that are empty."""
    from sixfold.strategies import COMPLAINTS, CONSTRAINTS, STAGES

    if not card.relieves or not set(card.relieves) <= set(CONSTRAINTS):
        yield "relieves nothing, or what is no constraint"
    if len(set(card.relieves)) < len(card.relieves):
        yield "names a constraint twice"
    if not set(card.answers) <= set(COMPLAINTS):
        yield "answers what is no symptom"
    if card.stage not in range(len(STAGES)):
        yield f"stage {card.stage} is none of the {len(STAGES)}"
    if not card.costs or not all(card.answers.values()):
        yield "has an empty text"


def choice_faults(cards: "Sequence[Card]") -> Iterator[str]:
    """Constraints and symptoms with too few answers, and stages at which nothing is adopted."""
    from sixfold.strategies import COMPLAINTS, CONSTRAINTS, STAGES

    uses = [name for card in cards for name in (*card.relieves, *card.answers)]
    for name in (*CONSTRAINTS, *COMPLAINTS):
        if uses.count(name) < FEWEST:
            yield f"{name}: {uses.count(name)} cards answer it, at least {FEWEST} should"
    for number, stage in enumerate(STAGES):
        if all(card.stage != number for card in cards):
            yield f"{stage.name}: nothing is adopted at this stage"


def measured_cases() -> set[str]:
    """The names that the benchmark of strategies has a case for: the keys of its table."""
    tree = ast.parse((ROOT / CASES).read_text(encoding="utf-8"))
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CASES"
    ]
    keys = [key for table in tables if isinstance(table, ast.Dict) for key in table.keys]
    return {str(key.value) for key in keys if isinstance(key, ast.Constant)}


def serve_flags() -> set[str]:
    """The flags of `sixfold serve`, as the command line makes them."""
    from sixfold.cli.settings import flag_names

    return flag_names()


def resolves(dotted: str) -> bool:
    """Whether a.b.C names a top-level object of a module of the tree."""
    module, _, name = dotted.rpartition(".")
    path = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    return path.is_file() and name in _defined(path)


def has_test(place: str) -> bool:
    """Whether path::test exists."""
    path, _, name = place.partition("::")
    return (ROOT / path).is_file() and name in _defined(ROOT / path)


def _defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    assigned = [t for n in tree.body if isinstance(n, ast.Assign) for t in n.targets]
    return names | {t.id for t in assigned if isinstance(t, ast.Name)}
