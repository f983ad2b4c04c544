"""Calls that run what they read: pickle and its kin, eval, shells. None is allowed anywhere."""

import ast
from collections.abc import Iterable, Iterator

from checks.tree import Finding, Source

MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "yaml",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("torch", "load"),
    ("os", "system"),
    ("os", "popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    *(
        (module, name)
        for module in ("multiprocessing", "mp")
        for name in ("Pipe", "Queue", "SimpleQueue", "JoinableQueue", "Manager", "Pool")
    ),
}
FROM = ATTRIBUTES | {
    ("multiprocessing", name) for name in ("connection", "managers", "pool", "queues")
}
KEYWORDS = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}


def check_unsafe(files: Iterable[Source]) -> Iterator[Finding]:
    """Every use of a forbidden module, function or keyword."""
    for source in files:
        for node in ast.walk(source.tree):
            for text in _problems(node):
                yield Finding(source.path, getattr(node, "lineno", 1), text)


def _problems(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield from _module(alias.name)
        case ast.ImportFrom(module=str(module), names=names):
            yield from _module(module)
            for alias in names:
                if (module.split(".")[0], alias.name) in FROM:
                    yield f"imports {module}.{alias.name}"
        case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
            yield f"calls {name}()"
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in ATTRIBUTES:
            yield f"uses {owner}.{name}"
        case ast.keyword(arg=str(name), value=value) if name in KEYWORDS:
            # Anything but the safe constant is refused: a variable may hold the unsafe one.
            safe = not KEYWORDS[name]
            if not (isinstance(value, ast.Constant) and value.value is safe):
                yield f"passes {name}={ast.unparse(value)}"


def _module(name: str) -> Iterator[str]:
    parts = name.split(".")
    if parts[0] in MODULES:
        yield f"imports {name}"
    if parts[0] == "multiprocessing" and len(parts) > 1 and ("multiprocessing", parts[1]) in FROM:
        yield f"imports {name}"
