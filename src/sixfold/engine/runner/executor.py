"""Which executor runs the program: native, or the NumPy reference behind the same few calls."""

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import BLOCK_SIZE, EngineConfig, ModelConfig
from sixfold.core.errors import ConfigError, ModelError
from sixfold.engine.kernels import cpu, reference_sampler
from sixfold.engine.kernels.memory import available_memory
from sixfold.engine.kernels.packing import KVDtype, page_bytes
from sixfold.engine.kernels.program import Attention, Program
from sixfold.engine.kernels.reference import ReferenceModel
from sixfold.engine.kernels.reference_attention import KeyFrames
from sixfold.engine.kernels.sampling import SAMPLE_RESULT
from sixfold.engine.models import gemma, llama
from sixfold.engine.models.weights import Weights
from sixfold.engine.runner.step_input import StepInput

Int32 = NDArray[np.int32]

BUILDERS = {"llama": llama.build, "qwen2": llama.build, "qwen3": llama.build, "gemma3": gemma.build}
"""Architecture -> the function that draws its program."""

DEFAULT_KV_MB = 4096
MAX_K = 65536
"""abi.h's kMaxK: the longest row of activations."""


class Executor(Protocol):
    """What the model runner needs."""

    def uses(self, highest: Sequence[int]) -> None:
        """Blocks up to these, of each KV group, are in use from now on."""
        ...

    def forward(self, step: StepInput) -> None:
        """Run all layers; keeps the last hidden states, writes the KV cache."""
        ...

    def sample(self, rows: Int32, targets: Int32, params: NDArray[np.void]) -> NDArray[np.void]:
        """Sample rows of the last forward (target -1), or take their target's logprobs."""
        ...

    def value(self, value_id: int) -> NDArray[np.float32]:
        """[T, width]: what the output projection reads, of the last forward."""
        ...

    def seconds(self) -> dict[str, float]:
        """Time spent in it so far, by part."""
        ...


class ReferenceExecutor:
    """The NumPy twin of `ops.NativeModel`, sampling included."""

    def __init__(self, model: ReferenceModel) -> None:
        self._model = model
        self._seconds = 0.0

    def uses(self, highest: Sequence[int]) -> None:
        """Its cache is there from the start."""

    def forward(self, step: StepInput) -> None:
        """Run all layers."""
        began = time.perf_counter()
        self._model.forward(step)
        self._seconds += time.perf_counter() - began

    def value(self, value_id: int) -> NDArray[np.float32]:
        """[T, width] of any value."""
        return self._model.value(value_id)

    def seconds(self) -> dict[str, float]:
        """Its layers are not told apart."""
        return {"other": self._seconds}

    def sample(self, rows: Int32, targets: Int32, params: NDArray[np.void]) -> NDArray[np.void]:
        """Row by row."""
        results = np.zeros(len(rows), SAMPLE_RESULT)
        logits = self._model.logits(rows)
        for i, record in enumerate(params):
            if targets[i] >= 0:
                found = reference_sampler.logprobs_row(
                    logits[i], int(targets[i]), int(record["num_logprobs"])
                )
            else:
                found = reference_sampler.sample_row(logits[i], _params_of(record))
            count = len(found.top_ids)
            results[i]["token"], results[i]["status"] = found.token, 0 if found.ok else 1
            results[i]["logprob"], results[i]["rank"] = found.logprob, found.rank
            results[i]["num_top"] = count
            results[i]["top_ids"][:count] = found.top_ids
            results[i]["top_logprobs"][:count] = found.top_logprobs
        return results


def _params_of(record: np.void) -> reference_sampler.SampleParams:
    scalars = ("seed", "position", "temperature", "top_p", "min_p", "repetition_penalty",
               "frequency_penalty", "presence_penalty", "top_k", "num_logprobs")  # fmt: skip
    fields: dict[str, Any] = {name: record[name].item() for name in scalars}
    for name in ("banned", "prompt", "output"):
        fields[f"{name}_ids"] = tuple(_read_ints(record, f"{name}_ids", f"num_{name}"))
    count = int(record["num_bias"])
    ids = _read_ints(record, "bias_ids", "num_bias")
    values = (
        list((ctypes.c_float * count).from_address(int(record["bias_values"]))) if count else []
    )
    return reference_sampler.SampleParams(**fields, bias=tuple(zip(ids, values, strict=True)))


def _read_ints(record: np.void, address: str, count: str) -> list[int]:
    number = int(record[count])
    return list((ctypes.c_int32 * number).from_address(int(record[address]))) if number else []


def build_executor(
    program: Program,
    weights: Weights,
    config: EngineConfig,
    max_model_len: int,
    cache_dir: Path,
    frames: KeyFrames,
) -> tuple[Executor, list[int]]:
    """The executor and the number of KV blocks per group (null block included).

    `frames` are an 8-bit cache's (runner/key_frames.py).
    Raises ConfigError where memory or the ISA tier does not allow it.
    """
    kv_dtype = kv_dtype_of(config, weights)
    num_blocks = _count_blocks(program, config, max_model_len, kv_dtype)
    if config.executor == "reference":
        model = ReferenceModel(program, weights, num_blocks, kv_dtype, frames)
        return ReferenceExecutor(model), num_blocks
    try:
        from sixfold.engine.kernels import ops
    except ImportError as error:
        raise ConfigError(
            f"the native module is missing ({error})",
            "install a wheel, or build with a C++ compiler; --executor reference runs without it",
        ) from error
    options = ops.NativeOptions(
        isa=cpu.choose_tier(config.isa),
        threads=config.num_threads or cpu.allowed_threads(),
        max_tokens=config.max_num_batched_tokens,
        max_positions=max_model_len,
        naive_attention=config.attention == "naive",
        key_frames=frames,
    )
    native = ops.NativeModel(program, weights, num_blocks, kv_dtype, options)
    if config.autotune:
        from sixfold.engine.runner.autotune import tuned

        best = tuned(native, options, cache_dir)
        native.set_tuning(best.chunks, best.distance)
        native.forget_seconds()
    return native, num_blocks


def kv_dtype_of(config: EngineConfig, weights: Weights) -> KVDtype:
    """What the KV cache holds: with auto, float32 beside float32 weights, else bfloat16."""
    if config.kv_cache_dtype == "int8":
        return "int8"
    return "f32" if weights["embed.weight"].format == "f32" else "bf16"


def _count_blocks(
    program: Program, config: EngineConfig, max_model_len: int, kv_dtype: KVDtype
) -> list[int]:
    groups = len(program.kv_groups)
    if config.num_kv_blocks:
        return [config.num_kv_blocks + 1] * groups
    budget = config.kv_cache_memory_mb << 20
    if not budget:
        budget = min(DEFAULT_KV_MB << 20, (available_memory() or 4 << 30) // 4)
    # Every group gets the same number of blocks: the widest need (no window) sets the pace.
    blocks = budget // sum(_block_bytes(program, g, kv_dtype) for g in range(groups))
    # More blocks than all sequences at their longest can fill would never be used.
    blocks = min(blocks, config.max_num_seqs * -(-max_model_len // BLOCK_SIZE) * 4)
    if blocks < 1:
        raise ConfigError("the KV cache has no room for one block", "raise --kv-cache-memory-mb")
    return [int(blocks) + 1] * groups


def _block_bytes(program: Program, group: int, kv_dtype: KVDtype) -> int:
    ops = [o for o in program.ops if isinstance(o, Attention) and o.kv_group == group]
    return sum(page_bytes(o.head_dim, kv_dtype) * o.num_kv_heads for o in ops)


def build_program(model: ModelConfig) -> Program:
    """The model's op program. Raises ModelError for shapes that the kernels' layouts lack."""
    for fits, what in (
        (model.head_dim % 32 == 0 and model.head_dim <= 256, f"a head size of {model.head_dim}"),
        (model.num_heads % model.num_kv_heads == 0, "heads that KV heads do not divide"),
        (model.ffn_size % 16 == 0, f"a feed-forward size of {model.ffn_size}"),
        (max(model.hidden_size, model.ffn_size) <= MAX_K, "layers wider than 65536"),
    ):
        if not fits:
            raise ModelError(
                f"the model has {what}, which this build does not run",
                "head sizes are multiples of 32 up to 256, feed-forward sizes multiples of 16",
            )
    return BUILDERS[model.architecture](model)
