"""Any server behind the user's own command (docker, kubectl, ssh, srun): templates, no shell.

{args} is the flags, {port} the port and {model} the model. A word that is just {args} becomes as
many words as there are flags; inside a word (ssh's command) flags are quoted. Not here: running.
"""

import shlex

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.aliases import ANY
from sixfold.instrument.backends.spec import EngineKind, EngineSpec, checked_args

EXAMPLE = "docker run --rm -p 127.0.0.1:{port}:8000 IMAGE --model {model} {args}"


def expand(template: str, spec: EngineSpec, args: list[str]) -> list[str]:
    """The template's words. Raises ConfigError for quotes that do not close."""
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise ConfigError(f"bad command {template!r}: {error}", f"such as: {EXAMPLE}") from error
    expanded: list[str] = []
    for word in words:
        expanded += args if word == "{args}" else [_fill(word, spec, args)]
    return expanded


def _fill(word: str, spec: EngineSpec, args: list[str]) -> str:
    """In one pass over the word, so that values which hold braces stay as they are."""
    values = {"{args}": shlex.join(args), "{port}": str(spec.port), "{model}": spec.model}
    filled, at = "", 0
    while at < len(word):
        name = next((n for n in values if word.startswith(n, at)), "")
        filled += values[name] if name else word[at]
        at += len(name) or 1
    return filled


def _argv(spec: EngineSpec) -> list[str]:
    template = spec.start_command
    if "{port}" not in template:
        raise ConfigError("the start command has no {port}", f"such as: {EXAMPLE}")
    if spec.flags and "{args}" not in template:
        raise ConfigError("the start command has no {args}, but there are flags", EXAMPLE)
    return expand(template, spec, checked_args(BACKEND, spec))


def stop_argv(spec: EngineSpec) -> list[str]:
    """The stop command's words; none without one."""
    return expand(spec.stop_command, spec, [])


BACKEND = EngineKind(
    name="command",
    argv=_argv,
    owned=("port",),
    ready_path="/v1/models",
    aliases=ANY,
    install="give a start command",
)
