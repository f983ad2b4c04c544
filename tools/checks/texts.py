"""What every text file is held to: links that resolve, no machine's paths, nothing left open."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from checks.tree import ROOT, Finding, Source

PLACES = re.compile(
    r"(?<![\w.])/(work|farm|root)/|\b(pypi|pythonhosted|npmjs|debian)\.(org|com)\b"
    r"|(?<![\w.])/home/\w+/|(?<![\w.])/tmp/(peers|bash)"
)
OPEN = re.compile(
    r"\b(" + "TO" + "DO|FIX" + "ME|X" + "XX|HA" + "CK)\\b"
    r"|raise NotImplemented" + "Error|pytest\\.mark\\.(sk" + "ip|xf" + "ail)\\b"
)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CONFIGS = {
    "src/sixfold/core/config.py": "EngineConfig",
    "src/sixfold/serving/server/config.py": "ServerConfig",
}


def check_places(files: Iterable[Source]) -> Iterator[Finding]:
    """Paths of one machine and hosts of package registries."""
    for source in files:
        for number, line in enumerate(source.lines, 1):
            if PLACES.search(line):
                yield Finding(source.path, number, "names a machine's path or a registry's host")


def check_open(files: Iterable[Source]) -> Iterator[Finding]:
    """Work left open in code."""
    for source in files:
        for number, line in enumerate(source.lines, 1):
            if OPEN.search(line):
                yield Finding(source.path, number, f"left open: {line.strip()[:60]}")


def check_links(files: Iterable[Source]) -> Iterator[Finding]:
    """Links of Markdown pages that lead nowhere: files and headings of this tree."""
    for source in files:
        blanked = CODE_BLOCK.sub(lambda m: "\n" * m.group().count("\n"), source.text)
        for number, line in enumerate(blanked.splitlines(), 1):
            for target in LINK.findall(line):
                if not re.match(r"[a-z]+:", target) and not _resolves(source.path, target):
                    yield Finding(source.path, number, f"link leads nowhere: {target}")


def _resolves(page: str, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = (ROOT / page).parent / name if name else ROOT / page
    if not path.exists() or not path.resolve().is_relative_to(ROOT):
        return False
    return not anchor or anchor in _anchors(path)


def _anchors(path: Path) -> set[str]:
    """Heading anchors, as GitHub forms them."""
    titles = HEADING.findall(CODE_BLOCK.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_configs() -> Iterator[Finding]:
    """Fields of the configuration that have no docstring: --help is made of them."""
    for path, name in CONFIGS.items():
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        found = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
        if not found:
            yield Finding(path, 1, f"{name} is not there")
            continue
        for node, after in zip(found[0].body, [*found[0].body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and not _is_text(after):
                yield Finding(path, node.lineno, f"{ast.unparse(node.target)} has no docstring")


def _is_text(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
