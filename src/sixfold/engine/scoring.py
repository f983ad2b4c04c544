"""Log-probabilities of whole token lists from the engine's own parts, one sequence at a time.

For what is said of accuracy (tests, benchmarks/accuracy.py). Not here: serving them (an engine's
`prompt_logprobs`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.kernels import ops
from sixfold.engine.kernels.packing import KVDtype
from sixfold.engine.kernels.reference import ReferenceModel
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.tokenizer import load_tokenizer
from sixfold.engine.models.weights import Weights, load_weights
from sixfold.engine.runner.calibration import Source, with_outliers
from sixfold.engine.runner.executor import build_program
from sixfold.engine.runner.key_frames import key_frames
from sixfold.engine.runner.step_input import StepInput

CHUNK = 256


@dataclass(frozen=True)
class Variant:
    """What of a model is not as the engine has it."""

    keep_outliers: bool = True
    """False: int8 and int4 have all their columns in 8 bits."""
    kv_dtype: KVDtype | None = None
    """Of the cache; None: f32 beside f32 weights, else bf16."""
    edit: Callable[[Weights], Weights] | None = None
    """Changes the weights."""
    naive_attention: bool = False


class Scorer:
    """A model on the native executor, or in NumPy (`isa="reference"`)."""

    def __init__(
        self,
        path: Path,
        dtype: str,
        cache: Path,
        isa: str = "",
        max_len: int = 1024,
        variant: Variant | None = None,
    ) -> None:
        """`dtype` as EngineConfig has it, but not auto; `isa`: a tier, the best where empty."""
        variant = variant or Variant()
        checkpoint = open_checkpoint(path)
        program = build_program(checkpoint.config)
        weights = load_weights(checkpoint, dtype, cache)
        if variant.edit is not None:
            weights = variant.edit(weights)
        source = Source(checkpoint, dtype, cache)

        def encode(text: str) -> list[int]:  # a folder without a tokenizer is scored all the same
            return load_tokenizer(checkpoint.path).encode(text)

        if dtype in ("int8", "int4") and variant.keep_outliers:
            weights = with_outliers(weights, program, encode, source.columns)
        blocks = -(-max_len // BLOCK_SIZE)
        counts = [blocks + 1] * len(program.kv_groups)
        kv_dtype = variant.kv_dtype or ("f32" if dtype == "f32" else "bf16")
        frames = key_frames(source, program, weights, encode) if kv_dtype == "int8" else {}
        self.model: ops.NativeModel | ReferenceModel
        if isa == "reference":
            self.model = ReferenceModel(program, weights, counts, kv_dtype, frames)
        else:
            options = ops.NativeOptions(
                isa or ops.tiers()[-1], 2, CHUNK, max_len, key_frames=frames,
                naive_attention=variant.naive_attention,
            )  # fmt: skip
            self.model = ops.NativeModel(program, weights, counts, kv_dtype, options)
        self.tables = [np.arange(1, blocks + 1, dtype=np.int32)[None] for _ in program.kv_groups]

    def logits(self, token_ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """float32 [len(token_ids), V]: row p is what follows token p."""
        ids = np.asarray(token_ids, np.int32)
        parts = []
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            positions = np.arange(start, start + len(chunk), dtype=np.int32)
            bounds, slots = np.array([0, len(chunk)], np.int32), np.zeros(1, np.int32)
            self.model.forward(StepInput(chunk, positions, bounds, slots, self.tables))
            parts.append(self.model.logits(np.arange(len(chunk), dtype=np.int32)))
        return np.concatenate(parts)

    def logprobs(self, token_ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
        """float64 [len(token_ids), V]: row p is the distribution after token p."""
        return log_softmax(self.logits(token_ids))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted
