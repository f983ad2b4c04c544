"""A prompt's hidden states as one vector: their mean, or the last one, of length 1.

For embeddings and ranking by a decoder. Sums go on over a prompt's chunks. Not here: which rows are
computed (scheduler), what an API makes of the vector.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sixfold.core.request import EngineRequest
from sixfold.engine.kernels.program import Logits, Program
from sixfold.engine.kernels.reference_attention import rms_norm
from sixfold.engine.models.weights import Weights
from sixfold.engine.scheduler.output import ScheduledChunk

Float32 = NDArray[np.float32]


@dataclass(slots=True)
class _Sum:
    request: EngineRequest
    total: NDArray[np.float64]


class Pooler:
    """Sums of the requests that run, by slot. `value_of` reads a value of the last forward."""

    def __init__(
        self, program: Program, weights: Weights, value_of: Callable[[int], Float32]
    ) -> None:
        head = program.ops[-1]
        assert isinstance(head, Logits), "the program does not end with logits"
        self._hidden, self._eps = head.x.id, head.eps
        self._norm = weights[head.norm].dense().reshape(-1)
        self._value_of = value_of
        self._sums: dict[int, _Sum] = {}

    def hidden(self) -> Float32:
        """[T, E]: the last forward's states, normed as the output projection gets them."""
        return rms_norm(self._value_of(self._hidden), self._norm, self._eps)

    def take(self, chunk: ScheduledChunk, request: EngineRequest, rows: Float32) -> bytes | None:
        """The chunk's states, [len(chunk.token_ids), E]; the vector once the prompt is whole.

        float32, little-endian, of length 1.
        """
        if request.pooling == "last":
            total = rows[-1].astype(np.float64)
        else:
            known = self._sums.get(chunk.slot)
            total = rows.sum(axis=0, dtype=np.float64)
            if chunk.start and known is not None and known.request is request:
                total += known.total
            self._sums[chunk.slot] = _Sum(request, total)
        if chunk.start + len(chunk.token_ids) < len(request.prompt_token_ids):
            return None
        self._sums.pop(chunk.slot, None)
        length = float(np.linalg.norm(total))
        found: bytes = (total / (length or 1.0)).astype("<f4").tobytes()
        return found
