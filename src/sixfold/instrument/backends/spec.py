"""Records of engines: what to start (EngineSpec) and how an engine is handled (EngineKind).

Also the spelling of flags as arguments. Not here: processes (base.py), checking flags against an
installed engine (flags.py), and any one engine's facts (a module each).
"""

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from sixfold.core.errors import ConfigError

Scalar = bool | int | float | str
HOST = "127.0.0.1"
"""Engines listen here and nowhere else."""
_SECRET = re.compile(r"TOKEN\Z|KEY|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_FLAG = re.compile(r"[A-Za-z][\w.-]*\Z")


class EngineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One configuration of one engine, ready to start."""

    engine: str
    """A key of backends.MODULES."""
    model: str = ""
    flags: dict[str, Scalar] = {}
    """The engine's own flags, without dashes; underscores and dashes are the same."""
    env: dict[str, str] = {}
    """Added to the environment of this process."""
    executable: str = ""
    """Binary, or virtual environment; for `openai` the server's URL; empty: look for it."""
    port: int = 0
    """TCP port on loopback; 0 takes a free one."""
    start_command: str = ""
    """For `command`: what starts the server, with {args}, {port} and {model}."""
    stop_command: str = ""
    """For `command`: what stops it; with it, a start command that ends is no failure."""
    ready_path: str = ""
    """Answers 200 when the server can serve; empty takes the engine's."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port is {self.port}", "use 1 to 65535, or 0 for a free one")
        for name in self.flags:
            if not _FLAG.match(name):
                raise ConfigError(f"{name!r} is no flag", "write its name without dashes")


class Request(msgspec.Struct, frozen=True):
    """An HTTP request without a body."""

    method: Literal["GET", "POST"]
    path: str


class Symptom(msgspec.Struct, frozen=True):
    """A start failure that is known: text of the log, and what to do about it."""

    pattern: str
    """Regular expression, searched in the end of the log without regard to case."""
    reason: str
    hint: str
    status: Literal["did_not_start", "out_of_memory"] = "did_not_start"


def _no_reset(_spec: EngineSpec, _answer: Any) -> tuple[Request, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """How one engine is started, asked and read: data, and functions of the spec."""

    name: str
    argv: Callable[[EngineSpec], list[str]]
    """Command that serves spec.port; empty: nothing is started. Raises ConfigError."""
    help_argv: Callable[[EngineSpec], list[str]] | None = None
    """Command that prints every flag; None: flags can't be checked."""
    negates: bool = True
    """False becomes --no-flag; else a flag that is False is left out."""
    owned: tuple[str, ...] = ("host", "port", "model", "api_key")
    """Flags that the harness sets itself."""
    ready_path: str = "/health"
    reset: Callable[[EngineSpec, Any], tuple[Request, ...]] = _no_reset
    """Requests that drop the prefix cache; none: restart instead. Of the spec as it was started,
    and the JSON that `before_reset` was answered with (None without one)."""
    before_reset: Request | None = None
    """Asked before a reset."""
    scratch: str = ""
    """Flag for a directory that the server needs while it runs; it gets one unless it is set."""
    metrics_path: str = "/metrics"
    aliases: Mapping[str, tuple[str, ...]]
    """Canonical metric -> the engine's names, the newest first."""
    version: tuple[str, str] | None = None
    """Path and JSON key of the version."""
    tested: tuple[str, str] | None = None
    """Lowest and highest version that was run; None: none was."""
    tried: str = ""
    """What was tried, in words, where no version tells."""
    symptoms: tuple[Symptom, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment that it needs; the spec's own goes before it."""
    install: str = ""
    """One line: how to get it."""


def tested_words(engine: EngineKind) -> str:
    """What this engine's module was tried with; empty where versions don't matter."""
    if engine.tested is not None:
        low, high = engine.tested
        return f"tested with {low}" if low == high else f"tested with {low} to {high}"
    return engine.tried


def flag_args(flags: Mapping[str, Scalar], negates: bool = True) -> list[str]:
    """Flags as arguments, in their order: max_num_seqs=8 becomes --max-num-seqs 8."""
    args: list[str] = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if value is True:
            args.append(f"--{flag}")
        elif value is False:
            args += [f"--no-{flag}"] if negates else []
        elif isinstance(value, str) and value.startswith("-"):
            args.append(f"--{flag}={value}")
        else:
            args += [f"--{flag}", str(value)]
    return args


def checked_args(backend: EngineKind, spec: EngineSpec) -> list[str]:
    """The spec's flags as arguments. Raises ConfigError for one that the harness owns."""
    for name in spec.flags:
        if name.replace("-", "_") in backend.owned:
            hint = "the model and the port are the spec's; on loopback no key is needed"
            raise ConfigError(f"{name} is not yours to set", hint)
    return flag_args(spec.flags, backend.negates)


def shown_command(backend: EngineKind, spec: EngineSpec) -> str:
    """The start as one line to paste into a shell; empty if nothing is started.

    Variables that hold secrets by their names are left out: this line is published.
    """
    argv = backend.argv(spec)
    if argv[:3] == [sys.executable, "-m", "sixfold"]:
        argv = ["sixfold", *argv[3:]]  # its name on anybody's PATH
    variables = (dict(backend.env) | spec.env).items()
    settings = [f"{k}={v}" for k, v in variables if not _SECRET.search(k)]
    return shlex.join(["env", *settings, *argv] if settings and argv else argv)


def find_executable(given: str, name: str, install: str) -> str:
    """`given`, or its bin/`name` if it is a directory, or `name` on PATH. Raises ConfigError."""
    candidates = [given, str(Path(given) / name), str(Path(given) / "bin" / name)]
    for candidate in candidates if given else [name]:
        # Not resolved: a virtual environment's python is a link that must stay one.
        found = shutil.which(candidate)
        if found is not None:
            return found
    where = given or "PATH"
    raise ConfigError(f"{name} is not in {where}", install)
