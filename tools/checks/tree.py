"""The files that checks read, and how a finding looks. Not here: any rule."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule at one place."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Source:
    """One text file; `path` is relative to the root."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree (Python files)."""
        return ast.parse(self.text, self.path)

    @cached_property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.text.splitlines()

    @property
    def module(self) -> str:
        """Dotted name of a file under src."""
        parts = Path(self.path).with_suffix("").parts[1:]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tracked() -> list[Path]:
    """Files that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({Path(name) for name in names.splitlines() if (ROOT / name).is_file()})


def sources(*suffixes: str, under: tuple[str, ...] = ()) -> Iterator[Source]:
    """Text files of these suffixes, in these top folders (all without)."""
    for path in tracked():
        if path.suffix in suffixes and (not under or path.parts[0] in under):
            yield Source(str(path), (ROOT / path).read_text(encoding="utf-8"))
