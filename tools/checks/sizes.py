"""Size limits and shape rules: short files and functions, few parameters, no deep inheritance."""

import ast
from collections.abc import Iterable, Iterator
from statistics import median

from checks.tree import Finding, Source

MAX_FILE = 400
MAX_FUNCTION = 50
MAX_PARAMETERS = 6

Function = ast.FunctionDef | ast.AsyncFunctionDef


def check_sizes(files: Iterable[Source]) -> Iterator[Finding]:
    """Files and functions over the limits."""
    for source in files:
        count = len(source.lines)
        if count > MAX_FILE:
            yield Finding(source.path, count, f"file of {count} lines, at most {MAX_FILE}")
        if not source.path.endswith(".py"):
            continue
        for function in functions(source):
            yield from _function(source.path, function)


def functions(source: Source) -> list[Function]:
    """All functions and methods of a file."""
    return [n for n in ast.walk(source.tree) if isinstance(n, Function)]


def length(function: Function) -> int:
    """Lines of a function, its signature included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def medians(files: Iterable[Source]) -> str:
    """The medians that ARCHITECTURE.md speaks of, as a line to print."""
    files = [f for f in files if f.path.endswith(".py") and len(f.lines) > 3]
    lengths = [length(f) for source in files for f in functions(source)]
    lines = [len(source.lines) for source in files]
    return (
        f"{len(files)} files, median {median(lines or [0]):g} lines, "
        f"{len(lengths)} functions, median {median(lengths or [0]):g} lines"
    )


def _function(path: str, function: Function) -> Iterator[Finding]:
    count = length(function)
    if count > MAX_FUNCTION:
        text = f"{function.name} has {count} lines, at most {MAX_FUNCTION}"
        yield Finding(path, function.lineno, text)
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    count = len(names) + len(function.args.kwonlyargs)
    if count > MAX_PARAMETERS:
        text = f"{function.name} takes {count} parameters, at most {MAX_PARAMETERS}"
        yield Finding(path, function.lineno, text)


def check_inheritance(files: Iterable[Source]) -> Iterator[Finding]:
    """Classes that inherit from a concrete class of ours, or from several, or are mixins."""
    classes = [
        (source.path, node)
        for source in files
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    ]
    own = {node.name: node for _, node in classes}
    for path, node in classes:
        if node.name.endswith("Mixin"):
            yield Finding(path, node.lineno, f"{node.name} is a mixin: compose instead")
        for base in _bases(node):
            parent = own.get(base)
            if parent is not None and not _abstract(parent, own):
                text = f"{node.name} inherits from {base}, which is not abstract"
                yield Finding(path, node.lineno, text)


def _bases(node: ast.ClassDef) -> list[str]:
    names = [b.value if isinstance(b, ast.Subscript) else b for b in node.bases]
    return [n.id if isinstance(n, ast.Name) else n.attr for n in names if hasattr(n, "ctx")]


def _abstract(node: ast.ClassDef, own: dict[str, ast.ClassDef]) -> bool:
    """An ABC, a protocol, or part of the exception tree."""
    for base in _bases(node):
        if base in {"ABC", "Protocol", "Exception", "BaseException"}:
            return True
        if base in own and base != node.name and _is_exception(own[base], own):
            return True
    return any(k.arg == "metaclass" for k in node.keywords)


def _is_exception(node: ast.ClassDef, own: dict[str, ast.ClassDef]) -> bool:
    bases = _bases(node)
    if {"Exception", "BaseException"} & set(bases):
        return True
    return any(b in own and b != node.name and _is_exception(own[b], own) for b in bases)
