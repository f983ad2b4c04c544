"""One attention layer with a paged cache, in either executor, played step by step."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sixfold.core.config import BLOCK_SIZE, RopeConfig
from sixfold.engine.kernels import packing
from sixfold.engine.kernels.ops import NativeModel, NativeOptions
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.kernels.reference import DenseWeight, ReferenceModel
from sixfold.engine.runner.step_input import StepInput

LONGEST = 1600
SEQUENCES = 5
TABLE = -(-LONGEST // BLOCK_SIZE)
LLAMA2 = RopeConfig()


@dataclass(frozen=True)
class Case:
    """`heads` is (H, KH, D)."""

    heads: tuple[int, int, int]
    window: int | None = None
    norms: bool = False
    rope: RopeConfig = LLAMA2


def some_frames(heads: int, dim: int) -> dict[int, np.ndarray]:
    """Key frames of the only layer, which caches of 8 bits use and others don't."""
    rng = np.random.default_rng(2)
    factor = rng.uniform(0.5, 2, (heads, dim))
    off = rng.normal(0, 0.3, (heads, dim))
    return {0: np.stack([factor, 1 / factor, off]).astype(np.float32)}


@lru_cache(maxsize=1)
def weights_of(heads: tuple[int, int, int]) -> dict:
    """Rows of qkv, and norms: sessions of one case come one behind the other."""
    h, kh, d = heads
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1, (512, (h + 2 * kh) * d)).astype(np.float32)
    weights = {"x": packing.PackedWeight("f32", *rows.shape, packing.pack_f32(rows))}
    weights["qn"] = DenseWeight(rng.uniform(0.5, 1.5, d).astype(np.float32))
    weights["kn"] = DenseWeight(rng.uniform(0.5, 1.5, d).astype(np.float32))
    return weights


class Session:
    """One attention layer, in either executor, over a random vocabulary of qkv rows; `most`:
    tokens in a step; `naive`: with all scores in memory."""

    def __init__(
        self, case: Case, kv_dtype: str, tier: str | None, threads: int = 2, most: int = 4096,
        naive: bool = False,
    ):  # fmt: skip
        h, kh, d = case.heads
        rng = np.random.default_rng(1)
        weights, width = weights_of(case.heads), (h + 2 * kh) * d
        b = ProgramBuilder()
        b.begin_layer()
        norms = ("qn", "kn", 1e-6) if case.norms else None
        x = b.embed("x", width)
        self.out = b.attention(x, case.heads, d**-0.5, case.rope, case.window, norms)
        blocks = SEQUENCES * TABLE + 1
        frames = some_frames(kh, d) if case.norms else {}
        if tier is None:
            self.model = ReferenceModel(b.build(), weights, [blocks], kv_dtype, frames)
        else:
            options = NativeOptions(
                tier, threads, most, LONGEST, naive_attention=naive, key_frames=frames
            )
            self.model = NativeModel(b.build(), weights, [blocks], kv_dtype, options)
        order = rng.permutation(np.arange(1, blocks, dtype=np.int32))
        self.tables = [np.ascontiguousarray(order.reshape(SEQUENCES, TABLE))]
        self.tokens = rng.integers(0, 512, (SEQUENCES, LONGEST)).astype(np.int32)

    def step(self, *chunks: tuple[int, int, int]) -> list[np.ndarray]:
        """Compute tokens [start, stop) of sequences: chunks (sequence, start, stop)."""
        lengths = [stop - start for _, start, stop in chunks]
        step = StepInput(
            np.concatenate([self.tokens[s, a:b] for s, a, b in chunks]),
            np.concatenate([np.arange(a, b, dtype=np.int32) for _, a, b in chunks]),
            np.cumsum([0, *lengths]).astype(np.int32),
            np.array([s for s, _, _ in chunks], np.int32),
            self.tables,
        )
        self.model.forward(step)
        return np.split(self.model.value(self.out.id), np.cumsum(lengths)[:-1])
