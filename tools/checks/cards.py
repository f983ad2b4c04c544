"""Strategy cards can't rot: every path, test, benchmark and flag that one names must exist."""

import ast
from collections.abc import Iterator
from pathlib import Path

from checks.tree import ROOT, Finding

PLACE = "src/sixfold/strategies"


def check_cards() -> Iterator[Finding]:
    """Every card's faults. Nothing is imported but the cards: paths are resolved in the source."""
    from sixfold.strategies import CARDS, ENGINES

    flags = serve_flags()
    for card in CARDS:
        faults: list[str] = []
        if not set(card.knobs) <= set(ENGINES):
            faults.append(f"names an engine that is none of {', '.join(ENGINES)}")
        if card.implemented is not None:
            if not resolves(card.implemented):
                faults.append(f"implemented: {card.implemented} is not there")
            if card.equality_test is None or "sixfold" not in card.knobs:
                faults.append("is built, but has no equality test or no knob")
        if card.equality_test is not None and not has_test(card.equality_test):
            faults.append(f"equality_test: {card.equality_test} is not there")
        if card.benchmark is not None and not (ROOT / card.benchmark).is_file():
            faults.append(f"benchmark: {card.benchmark} is not there")
        knob = card.knobs.get("sixfold")
        arguments = f"{knob.on} {knob.off or ''}".split() if knob else []
        unknown = [a for a in arguments if a.startswith("--") and a not in flags]
        faults += [f"knob: serve has no {flag}" for flag in unknown]
        yield from (Finding(PLACE, 1, f"{card.name}: {fault}") for fault in faults)


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
