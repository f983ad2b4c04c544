"""The import contract of ARCHITECTURE.md: which room may import which. Imports flow one way."""

import ast
import sys
from collections.abc import Iterable, Iterator

from checks.tree import Finding, Source

PURE = ("msgspec",)
"""What a pure room may import beside the standard library and its allowed rooms."""

ROOMS: dict[str, tuple[str, ...]] = {
    "core": ("core",),
    "strategies": ("core", "strategies"),
    "engine.scheduler": ("core", "engine.scheduler", "engine.kvcache"),
    "engine.kvcache": ("core", "engine.kvcache"),
    "engine.kernels": ("core", "engine.kernels"),
    "engine.models": ("core", "engine.kernels", "engine.models"),
    "engine.runner": (
        "core",
        "engine.kernels",
        "engine.models",
        "engine.runner",
        "engine.scheduler",
        "engine.kvcache",
    ),
    "engine.offload": (
        "core",
        "engine.kernels",
        "engine.kvcache",
        "engine.offload",
        "engine.runner",
    ),
    "engine.speculative": (
        "core",
        "engine.kernels",
        "engine.models",
        "engine.runner",
        "engine.scheduler",
        "engine.speculative",
    ),
    "engine": ("core", "engine"),
    "serving.router": ("core", "serving.router"),
    "serving": ("core", "engine", "serving"),
    "instrument.predictor": (
        "core",
        "strategies",
        "instrument",
        "engine.scheduler",
        "engine.kvcache",
    ),
    "instrument": ("core", "strategies", "instrument"),
    "cli": ("core", "strategies", "engine", "serving", "instrument", "cli"),
}
"""Room -> what it may import. The longest matching room holds."""

PURE_ROOMS = ("core", "strategies", "engine.scheduler", "engine.kvcache")
NATIVE = "sixfold.engine.kernels._native"
NATIVE_DOOR = "sixfold.engine.kernels.ops"
EAGER_CLI = ("sixfold.cli", "sixfold.core.errors", "sixfold.core.config")
"""What command-line modules may import at their top: all else comes when a verb runs."""


def check_imports(files: Iterable[Source]) -> Iterator[Finding]:
    """Every import of src/sixfold that the contract forbids."""
    for source in files:
        module = source.module
        room = room_of(module)
        if room is None:
            continue
        for name, node in _imports(source.tree):
            problem = _problem(module, room, name)
            if problem is None and room == "cli" and node in source.tree.body:
                problem = _eager(name)
            if problem is not None:
                yield Finding(source.path, node.lineno, problem)


def room_of(module: str) -> str | None:
    """The room of a module: the longest entry of ROOMS that it is in; None for the package."""
    inner = module.removeprefix("sixfold").removeprefix(".")
    return max((room for room in ROOMS if _inside(inner, room)), key=len, default=None)


def _inside(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def _imports(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level + (node.module or ""), node
            else:
                # `from package import module` may name a module: the rules look at both.
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node


def _problem(module: str, room: str, name: str) -> str | None:
    if name.startswith("."):
        return "relative import: write the whole name"
    top = name.split(".")[0]
    if top != "sixfold":
        known = top in sys.stdlib_module_names or top in PURE
        if room in PURE_ROOMS and not known:
            return f"{room} imports {top}: standard library and {', '.join(PURE)} only"
        return None
    if name.startswith(NATIVE) and module != NATIVE_DOOR:
        return f"imports the native module: only {NATIVE_DOOR} may"
    inner = name.removeprefix("sixfold.")
    if name != "sixfold" and any(_inside(inner, allowed) for allowed in ROOMS[room]):
        return None
    if name in ("sixfold", "sixfold.__version__"):
        return None
    return f"{room} may not import {name} (it may: {', '.join(ROOMS[room])})"


def _eager(name: str) -> str | None:
    lazy = name.split(".")[0] == "sixfold" and not name.startswith(EAGER_CLI)
    third_party = name.split(".")[0] not in {*sys.stdlib_module_names, "sixfold", "msgspec"}
    if lazy or third_party:
        return f"imports {name} at its top: import it where it is used, --help must stay quick"
    return None
