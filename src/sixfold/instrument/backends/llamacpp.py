"""llama.cpp's llama-server, by path, with a GGUF model. Facts only."""

from collections.abc import Mapping
from typing import Any

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.aliases import LLAMACPP
from sixfold.instrument.backends.spec import (
    HOST,
    EngineKind,
    EngineSpec,
    Request,
    Scalar,
    Symptom,
    checked_args,
    find_executable,
)

INSTALL = "build llama.cpp (cmake --build build --target llama-server); name its path as executable"


def _binary(spec: EngineSpec) -> str:
    return find_executable(spec.executable, "llama-server", INSTALL)


def _argv(spec: EngineSpec) -> list[str]:
    if not spec.model.endswith(".gguf"):
        raise ConfigError(f"{spec.model!r} is no GGUF file", "convert it: convert_hf_to_gguf.py")
    where = ["--model", spec.model, "--host", HOST, "--port", str(spec.port), "--metrics"]
    return [_binary(spec), *where, *checked_args(BACKEND, spec)]


def _reset(spec: EngineSpec, props: Any) -> tuple[Request, ...]:
    """Erases each slot; their number is the spec's, or what /props tells (auto, or the default).

    None where prompts outlive their slots in the host's memory, as by default: no request drops
    that cache, so that only a restart forgets.
    """
    flags = {name.replace("_", "-"): value for name, value in spec.flags.items()}
    slots = flags.get("parallel", flags.get("np", 0))
    if not isinstance(slots, int) or slots < 1:
        slots = props.get("total_slots", 0) if isinstance(props, dict) else 0
    if "slot-save-path" not in flags or not isinstance(slots, int) or _outlive_slots(flags):
        return ()
    return tuple(Request("POST", f"/slots/{slot}?action=erase") for slot in range(slots))


def _outlive_slots(flags: Mapping[str, Scalar]) -> bool:
    reused = flags.get("cache-prompt", True) and not flags.get("no-cache-prompt", False)
    return bool(reused) and flags.get("cache-ram", flags.get("cram", 8192)) != 0


BACKEND = EngineKind(
    name="llamacpp",
    argv=_argv,
    help_argv=lambda spec: [_binary(spec), "--help"],
    owned=("host", "port", "model", "m", "metrics", "api_key"),
    reset=_reset,
    before_reset=Request("GET", "/props"),
    # Nothing is saved there; but without it no slot may be erased.
    scratch="slot_save_path",
    aliases=LLAMACPP,
    version=("/props", "build_info"),
    tried="tested with the llama.cpp of llama-cpp-python 0.3.36",
    symptoms=(
        Symptom(
            r"failed to (open|load|read).*gguf|invalid magic|failed to load model",
            "the model file could not be loaded",
            "check the path, and that the file is a complete GGUF",
        ),
        Symptom(
            r"error: invalid argument",
            "a flag is not known to this llama-server",
            "see: llama-server --help",
        ),
    ),
    install=INSTALL,
)
