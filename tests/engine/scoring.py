"""Log-probabilities of whole token lists from the engine's own parts, for the accuracy tests."""

from pathlib import Path

import numpy as np

from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.kernels import ops
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.weights import load_weights
from sixfold.engine.runner.executor import build_program
from sixfold.engine.runner.step_input import StepInput

CHUNK = 256


class Scorer:
    """A model on the native executor, one sequence at a time."""

    def __init__(self, path: Path, dtype: str, cache: Path, isa: str = "", max_len: int = 1024):
        checkpoint = open_checkpoint(path)
        program = build_program(checkpoint.config)
        weights = load_weights(checkpoint, dtype, cache)
        blocks = max_len // BLOCK_SIZE
        options = ops.NativeOptions(isa or ops.tiers()[-1], 2, CHUNK, max_len)
        groups = len(program.kv_groups)
        kv_dtype = "f32" if dtype == "f32" else "bf16"
        self.model = ops.NativeModel(program, weights, [blocks + 1] * groups, kv_dtype, options)
        self.tables = [np.arange(1, blocks + 1, dtype=np.int32)[None] for _ in range(groups)]

    def logprobs(self, token_ids) -> np.ndarray:
        """float64 [len(token_ids), V]: row p is the distribution after token p."""
        ids = np.asarray(token_ids, np.int32)
        parts = []
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            positions = np.arange(start, start + len(chunk), dtype=np.int32)
            bounds, slots = np.array([0, len(chunk)], np.int32), np.zeros(1, np.int32)
            self.model.forward(StepInput(chunk, positions, bounds, slots, self.tables))
            parts.append(self.model.logits(np.arange(len(chunk), dtype=np.int32)))
        logits = np.concatenate(parts).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
