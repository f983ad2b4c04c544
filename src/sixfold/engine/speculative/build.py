"""What `--speculative` says, made: lookups, a drafting model, and the measured cost of a step.

Not here: what is done with them in a step (speculator.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sixfold.core.config import EngineConfig
from sixfold.core.errors import ConfigError
from sixfold.engine.kernels import cpu
from sixfold.engine.kernels.program import Program
from sixfold.engine.kernels.reference_attention import KeyFrames
from sixfold.engine.kernels.sampling import SAMPLE_PARAMS
from sixfold.engine.models.checkpoint import Checkpoint, open_checkpoint
from sixfold.engine.models.registry import resolve, sixfold_home
from sixfold.engine.models.tokenizer import Tokenizer, load_tokenizer
from sixfold.engine.models.weights import auto_dtype
from sixfold.engine.runner.calibration import Source
from sixfold.engine.runner.executor import Executor, build_program, kv_dtype_of
from sixfold.engine.runner.key_frames import key_frames
from sixfold.engine.runner.sampling_batch import SamplingBatch
from sixfold.engine.runner.step_input import StepInputBuilder, first_tokens
from sixfold.engine.speculative.cost import ROWS, StepCost
from sixfold.engine.speculative.draft_model import DraftModel
from sixfold.engine.speculative.lookup import Lookup, NgramLookup, Pasts, SuffixLookup
from sixfold.engine.speculative.speculator import Speculator

REPEATS = 5
"""Of each count of rows; the quickest counts, since whatever disturbs only adds."""
SELF_DTYPE = "int4"
"""Of the weights that draft for the same weights in more bits."""


@dataclass(frozen=True, slots=True)
class Target:
    """The engine's parts that drafting stands on."""

    config: EngineConfig
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    program: Program
    dtype: str
    executor: Executor
    num_blocks: list[int]
    builder: StepInputBuilder
    sampling: SamplingBatch
    max_model_len: int
    cache_dir: Path


def build_speculator(target: Target) -> Speculator | None:
    """None for off. Raises ConfigError where the model can't be drafted for in that way."""
    config = target.config
    kind, _, name = config.speculative.partition("=")
    if kind == "off":
        return None
    pasts, source = Pasts(), "suffix" if kind == "auto" else kind
    makers: dict[str, Callable[[str], Lookup]] = {
        "ngram": lambda salt: NgramLookup(),
        "suffix": lambda salt: SuffixLookup(pasts.of(salt)),
    }
    most = min(config.max_num_batched_tokens, target.max_model_len)
    cost = measured(target.executor, len(target.num_blocks), most)
    most, new_lookup = config.num_speculative_tokens, makers.get(source)
    speculator = Speculator(most, cost, source, new_lookup, pasts if source == "suffix" else None)
    if kind == "draft":
        _add_model(speculator, target, *_other(target, name))
    elif kind == "self" or (kind == "auto" and target.dtype in ("f32", "bf16")):
        _add_model(speculator, target, *_itself(target))
    return speculator


def measured(executor: Executor, groups: int, most: int) -> StepCost:
    """The curve of this machine: one request's first tokens, each of them sampled, several times
    for each count.

    `most`: of the counts. The cache is a block that nobody has yet.
    """
    greedy = np.zeros(most, SAMPLE_PARAMS)
    greedy["repetition_penalty"] = 1.0
    counts = [rows for rows in ROWS if rows <= most]
    taken: dict[int, list[float]] = {rows: [] for rows in counts}
    for _ in range(REPEATS):
        for rows in counts:
            step = first_tokens(rows, groups)
            began = time.perf_counter()
            executor.forward(step)
            every = np.arange(rows, dtype=np.int32)
            executor.sample(every, np.full(rows, -1, np.int32), greedy[:rows])
            taken[rows].append(time.perf_counter() - began)
    return StepCost(counts, [min(taken[rows]) for rows in counts])


def _itself(target: Target) -> tuple[Checkpoint, str]:
    if target.dtype == SELF_DTYPE:
        raise ConfigError(
            f"the model's weights are {target.dtype} already: nothing is left to draft with",
            "use --speculative suffix, or --dtype bf16",
        )
    return target.checkpoint, SELF_DTYPE


def _other(target: Target, name: str) -> tuple[Checkpoint, str]:
    checkpoint = open_checkpoint(resolve(name, sixfold_home()))
    if not _same_vocabulary(target, checkpoint):
        raise ConfigError(
            f"{name} has another vocabulary than {target.config.model}",
            "a draft model must share the tokenizer: take a smaller model of the same family",
        )
    return checkpoint, auto_dtype(checkpoint.config)


def _same_vocabulary(target: Target, checkpoint: Checkpoint) -> bool:
    size = target.checkpoint.config.vocab_size
    if checkpoint.config.vocab_size != size:
        return False
    if checkpoint.path == target.checkpoint.path:
        return True
    ours, theirs = target.tokenizer, load_tokenizer(checkpoint.path)
    return all(ours.token_bytes(i) == theirs.token_bytes(i) for i in range(size))


def _add_model(speculator: Speculator, target: Target, checkpoint: Checkpoint, dtype: str) -> None:
    from sixfold.engine.kernels import ops

    if not isinstance(target.executor, ops.NativeModel):
        raise ConfigError("a model can draft only on the native executor", "use ngram or suffix")
    config, itself = target.config, checkpoint is target.checkpoint
    program = target.program if itself else build_program(checkpoint.config)
    encode = load_tokenizer(checkpoint.path).encode
    source = Source(checkpoint, dtype, target.cache_dir)
    weights = source.load(program, encode)
    group = _whole_group(target.program)
    max_tokens = max(config.max_num_batched_tokens, 2 * config.max_num_seqs)
    kv_dtype = target.executor.kv_dtype if itself else kv_dtype_of(config, weights)
    frames: KeyFrames = {}
    if kv_dtype == "int8" and not itself:
        frames = key_frames(source, program, weights, encode)
    options = ops.NativeOptions(
        isa=cpu.choose_tier(config.isa),
        threads=config.num_threads or cpu.allowed_threads(),
        max_tokens=max_tokens,
        max_positions=target.max_model_len,
        cache_of=target.executor if itself else None,
        key_frames=frames,
    )
    blocks, groups = target.num_blocks[group], len(program.kv_groups)
    num_blocks = target.num_blocks if itself else [blocks] * groups
    model = ops.NativeModel(program, weights, num_blocks, kv_dtype, options)
    tables = target.builder.block_tables
    if not itself:
        tables = [tables[group]] * groups
    cost = measured(model, groups, min(config.max_num_seqs, target.max_model_len))
    drafting = DraftModel(model, target.sampling, tables, blocks, max_tokens, not itself)
    speculator.use_model(drafting, cost, target.builder, group)


def _whole_group(program: Program) -> int:
    """The KV group whose layers see everything: its tables name a block for every token."""
    for index, group in enumerate(program.kv_groups):
        if group.window is None:
            return index
    raise ConfigError(
        "all layers of the model have a sliding window, so that no draft model can go by its cache",
        "use --speculative ngram or suffix",
    )
