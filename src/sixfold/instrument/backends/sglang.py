"""SGLang, by virtual environment or Python: `python -m sglang.launch_server`. Facts only."""

import sys
from importlib.util import find_spec

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.aliases import SGLANG
from sixfold.instrument.backends.spec import (
    HOST,
    EngineKind,
    EngineSpec,
    Request,
    Symptom,
    checked_args,
    find_executable,
)

INSTALL = "pip install sglang in its own venv; name that venv as executable"


def _program(spec: EngineSpec) -> list[str]:
    if not spec.executable and find_spec("sglang") is None:
        raise ConfigError("sglang is not installed here", INSTALL)
    given = spec.executable or sys.executable
    return [find_executable(given, "python", INSTALL), "-m", "sglang.launch_server"]


def _argv(spec: EngineSpec) -> list[str]:
    where = ["--model-path", spec.model, "--host", HOST, "--port", str(spec.port)]
    return [*_program(spec), *where, "--enable-metrics", *checked_args(BACKEND, spec)]


BACKEND = EngineKind(
    name="sglang",
    argv=_argv,
    help_argv=lambda spec: [*_program(spec), "--help"],
    negates=False,
    owned=("host", "port", "model", "model_path", "enable_metrics", "api_key"),
    reset=lambda _spec, _answer: (Request("POST", "/flush_cache"),),
    aliases=SGLANG,
    version=("/get_server_info", "version"),
    tried="never run by us: it needs a GPU; 0.5.23's own parser takes all flags tried here",
    symptoms=(
        Symptom(
            r"No module named '?sglang",
            "sglang is not installed in that environment",
            INSTALL,
        ),
        Symptom(
            r"Not enough memory\. Please try to increase --mem-fraction-static",
            "no memory is left for the KV cache",
            "raise mem_fraction_static",
            "out_of_memory",
        ),
    ),
    install=INSTALL,
)
