"""Flags checked against the installed engine's own --help, before anything starts.

Not here: values (the engine judges them), the grid language (grid.py).
"""

import re
import subprocess
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends import backend
from sixfold.instrument.backends.spec import EngineSpec, checked_args

HELP_SECONDS = 180.0
MAX_BYTES = 8 << 20

_OPTION = re.compile(r"-{1,2}[A-Za-z][\w.-]*")
_METAVAR = re.compile(
    r"(?:[ =]|\[=?)(?:\{[^}]*\}|\[[^\]]*\]|<[^>]*>|[^\s,\-][^\s,]*)(?: \[[^\]]*\]| \.\.\.)?"
)
_BETWEEN = re.compile(r"\s*[,|/]\s*")
_BRACKETED = re.compile(r"\[(--?[^\]]*)\]")
MAX_INDENT = 8
"""Options are defined left of this column; what begins further right is a description."""


def check_flags(spec: EngineSpec) -> None:
    """Raises ConfigError that names the nearest flag, if the engine does not know one.

    Engines that can't be asked (openai, command) pass.
    """
    engine = backend(spec.engine)
    if engine.help_argv is None:
        return
    args = [a.partition("=")[0] for a in checked_args(engine, spec) if a.startswith("--")]
    if not args:
        return
    known = installed_flags(tuple(engine.help_argv(spec)))
    for flag in args:
        # Dotted flags set a key of a flag that takes JSON.
        if flag in known or flag.partition(".")[0] in known:
            continue
        near = get_close_matches(flag, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "see its --help"
        raise ConfigError(f"{spec.engine} has no flag {flag}", hint)


def installed_flags(help_argv: tuple[str, ...]) -> frozenset[str]:
    """The flags that this command's help names, kept until its executable changes."""
    return _ask(help_argv, Path(help_argv[0]).stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _ask(help_argv: tuple[str, ...], _mtime: int) -> frozenset[str]:
    shown = " ".join(help_argv)
    try:
        done = subprocess.run(
            help_argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HELP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"can't ask {shown}: {error}", "does it run by itself?") from error
    text = done.stdout[:MAX_BYTES].decode(errors="replace")
    flags = parse_help(text)
    if done.returncode or not flags:
        last = text.strip().rpartition("\n")[2]
        raise ConfigError(f"{shown} tells no flags: {last}", "does it run by itself?")
    return flags


def parse_help(text: str) -> frozenset[str]:
    """The options that a help text defines: of argparse, llama.cpp and their like."""
    flags: set[str] = set()
    for line in text.splitlines():
        stripped = line.lstrip()
        if stripped.startswith("-") and len(line) - len(stripped) <= MAX_INDENT:
            flags.update(_defined(stripped))
    usage = re.search(r"^usage:.*?(?:\n\s*\n|\Z)", text, re.IGNORECASE | re.DOTALL | re.MULTILINE)
    for group in _BRACKETED.findall(usage[0] if usage else ""):
        flags.update(_defined(group))
    return frozenset(flags)


def _defined(line: str) -> list[str]:
    """The options at the beginning of a line: `-m, --model FNAME   text` -> -m, --model."""
    found, at = [], 0
    while option := _OPTION.match(line, at):
        found.append(option[0])
        metavar = _METAVAR.match(line, option.end())
        end = option.end()
        if metavar and _BETWEEN.match(line, metavar.end()):
            end = metavar.end()
        between = _BETWEEN.match(line, end)
        if between is None:
            break
        at = between.end()
    return found
