"""Engines to measure: one small module each, behind one record (spec.EngineKind), by name.

Modules load when their engine is asked for, so that the guard process starts quickly. Not here:
load generation, sweeps, and what the measurements mean.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from sixfold.core.errors import ConfigError

if TYPE_CHECKING:
    from sixfold.instrument.backends.spec import EngineKind

MODULES = {
    name: f"sixfold.instrument.backends.{name}"
    for name in ("sixfold", "llamacpp", "vllm", "sglang", "openai", "command")
}
"""Engine's name -> the module whose BACKEND describes it."""


def backend(name: str) -> "EngineKind":
    """The engine of that name. Raises ConfigError for an unknown one."""
    if name not in MODULES:
        near = get_close_matches(name, MODULES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(MODULES)}"
        raise ConfigError(f"unknown engine {name!r}", hint)
    found: EngineKind = import_module(MODULES[name]).BACKEND
    return found
