"""Which input columns of a quantised linear layer are multiplied in bf16: found on a bundled text.

A few columns of activations are far larger than the rest, and would take all the steps of the 8
bits that their block of 128 has. The columns with the largest sum of |x| over the text are kept
beside the codes. Found once per model and dtype, then read from a file beside the packed weights.
Not here: how they are packed (kernels/packing.py), what they cost (benchmarks/accuracy.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.kernels.packing import PackedWeight
from sixfold.engine.kernels.program import Glu, Linear, Logits, Program
from sixfold.engine.kernels.reference import ReferenceModel
from sixfold.engine.kernels.reference_attention import rms_norm
from sixfold.engine.models.checkpoint import Checkpoint
from sixfold.engine.models.weights import Progress, Weights, load_weights, packed_path
from sixfold.engine.runner.kept_file import keep
from sixfold.engine.runner.step_input import StepInput

KEPT = {"w8": 20, "w4": 16}
"""Columns per linear layer; fewer in narrow ones. As many as the accuracy of 8-bit activations in
blocks of 32 takes (benchmarks/accuracy.py): with 16, w8 was 1 % short of it."""
SHARE = 16
"""At most one in so many."""
TOKENS = 512
TEXT = Path(__file__).with_name("calibration.txt")
VERSION = 2

Sizes = Mapping[str, NDArray[np.float32]]


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: columns by the weight's name."""

    version: int
    columns: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Source:
    """Weights on disk: of which model, in which dtype, and where their packed form is kept."""

    checkpoint: Checkpoint
    dtype: str
    cache: Path

    @property
    def columns(self) -> Path:
        """The file of their columns."""
        return self.path_of("columns")

    def path_of(self, what: str) -> Path:
        """A file of what was found of these weights."""
        return packed_path(self.checkpoint, self.dtype, self.cache).with_suffix(f".{what}.json")

    def load(
        self, program: Program, encode: Callable[[str], list[int]], progress: Progress | None = None
    ) -> Weights:
        """The weights with their outlier columns. Raises ModelError, ConfigError."""
        weights = load_weights(self.checkpoint, self.dtype, self.cache, progress)
        return with_outliers(weights, program, encode, self.columns)


def with_outliers(
    weights: Weights, program: Program, encode: Callable[[str], list[int]], path: Path
) -> Weights:
    """The weights, int8 and int4 ones with their outlier columns, from `path` or found now.

    `path` is written if it can be: without it they are found again at the next start.
    """
    quantised = {
        name: weight for name, weight in weights.items()
        if isinstance(weight, PackedWeight) and weight.format in ("w8", "w4")
    }  # fmt: skip
    if not quantised:
        return weights
    found = _read(path, quantised)
    if found is None:
        found = choose(observe(program, weights, *text_step(program, encode)), quantised)
        keep(path, msgspec.json.encode(Columns(VERSION, found)))
    return {
        name: replace(quantised[name], outliers=np.array(found[name], np.int32))
        if name in found else weight
        for name, weight in weights.items()
    }  # fmt: skip


def choose(sizes: Sizes, weights: Mapping[str, PackedWeight]) -> dict[str, list[int]]:
    """The largest columns of each weight, ascending."""
    found = {}
    for name in weights:
        if name in sizes:
            count = min(KEPT[weights[name].format], weights[name].k // SHARE) // 2 * 2
            largest = np.argsort(-sizes[name], kind="stable")[:count]
            found[name] = sorted(largest.tolist())
    return found


def text_step(program: Program, encode: Callable[[str], list[int]]) -> tuple[StepInput, list[int]]:
    """The bundled text as one request's prefill, and the blocks that each KV group needs."""
    ids = np.array(encode(TEXT.read_text(encoding="utf-8"))[:TOKENS], np.int32)
    groups = len(program.kv_groups)
    blocks = -(-len(ids) // BLOCK_SIZE)
    tables = [np.arange(1, blocks + 1, dtype=np.int32)[None] for _ in range(groups)]
    positions = np.arange(len(ids), dtype=np.int32)
    bounds, slots = np.array([0, len(ids)], np.int32), np.zeros(1, np.int32)
    return StepInput(ids, positions, bounds, slots, tables), [blocks + 1] * groups


def observe(program: Program, weights: Weights, step: StepInput, counts: list[int]) -> Sizes:
    """Sums of |x| of the inputs of every linear layer over the tokens, by the weight's name."""
    try:
        from sixfold.engine.kernels import ops
    except ImportError:
        return _observe_reference(program, weights, step, counts)
    tokens = len(step.token_ids)
    options = ops.NativeOptions(ops.tiers()[-1], 1, tokens, tokens)
    model = ops.NativeModel(program, weights, counts, "bf16", options)
    model.observe_inputs()
    model.forward(step)
    if model.vocab_size:
        model.logits(step.positions[-64:])
    return model.input_sizes()


def _observe_reference(
    program: Program, weights: Weights, step: StepInput, counts: list[int]
) -> Sizes:
    model = ReferenceModel(program, weights, counts)
    model.forward(step)
    sizes = {}
    for op in program.ops:
        if isinstance(op, Linear | Glu | Logits):
            x = model.value(op.x.id)
            if isinstance(op, Logits):
                x = rms_norm(x[-64:], weights[op.norm].dense().reshape(-1), op.eps)
            sizes[op.weight] = np.abs(x).sum(axis=0)
    return sizes


def _read(path: Path, weights: Mapping[str, PackedWeight]) -> dict[str, list[int]] | None:
    """The file's columns; None where there is none, or it does not fit these weights."""
    try:
        read = msgspec.json.decode(path.read_bytes(), type=Columns)
    except (OSError, msgspec.DecodeError):
        return None
    fits = all(
        name in weights
        and len(some) % 2 == 0
        and some == sorted(set(some))
        and all(0 <= column < weights[name].k for column in some)
        for name, some in read.columns.items()
    )
    return read.columns if fits and read.version == VERSION else None
