"""Our own engine: `sixfold serve`. Facts only; its flags come from its config structs."""

import sys

from sixfold import __version__
from sixfold.instrument.backends.aliases import VLLM
from sixfold.instrument.backends.spec import (
    HOST,
    EngineKind,
    EngineSpec,
    Request,
    checked_args,
    find_executable,
)

INSTALL = "pip install sixfold into that environment"


def _program(spec: EngineSpec) -> list[str]:
    if spec.executable:
        return [find_executable(spec.executable, "sixfold", INSTALL)]
    return [sys.executable, "-m", "sixfold"]


def _argv(spec: EngineSpec) -> list[str]:
    where = ["--host", HOST, "--port", str(spec.port)]
    return [*_program(spec), "serve", spec.model, *where, *checked_args(BACKEND, spec)]


BACKEND = EngineKind(
    name="sixfold",
    argv=_argv,
    help_argv=lambda spec: [*_program(spec), "serve", "--help"],
    ready_path="/ready",
    reset=lambda _spec, _answer: (Request("POST", "/reset_prefix_cache"),),
    aliases=VLLM,
    version=("/version", "version"),
    tested=(__version__, __version__),
    install=INSTALL,
)
