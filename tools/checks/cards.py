"""Strategy cards can't rot: every path, test, benchmark and flag that one names must exist."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from checks.tree import ROOT, Finding

if TYPE_CHECKING:
    from sixfold.strategies import Card

PLACE = "src/sixfold/strategies"
BENCHMARK = "benchmarks/strategies.py"
CASES = "benchmarks/strategy_cases.py"


def check_cards() -> Iterator[Finding]:
    """Every card's faults. Paths are resolved in the source: what they name is not imported."""
    from sixfold.strategies import CARDS

    flags, cases = serve_flags(), measured_cases()
    for card in CARDS:
        faults = [*place_faults(card), *built_faults(card), *knob_faults(card, flags)]
        if (card.benchmark == BENCHMARK) != (card.name in cases):
            faults.append(f"has a case in {CASES} or {BENCHMARK} as its benchmark, but not both")
        yield from (Finding(PLACE, 1, f"{card.name}: {fault}") for fault in faults)
    for name in sorted(cases - {card.name for card in CARDS}):
        yield Finding(CASES, 1, f"{name}: there is no such card")


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
