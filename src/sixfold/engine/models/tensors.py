"""Lazy tensors of a checkpoint: rows are read and decoded when asked for, and only those.

Does not know models, names or files' headers: a tensor is a place in a file and a kind, or
another tensor seen through a rule (rows in another order, one added).
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from sixfold.core.errors import ModelError
from sixfold.engine.models import dequant
from sixfold.engine.models.file_reader import FileReader

Float32 = NDArray[np.float32]
W4 = tuple[NDArray[np.uint8], Float32, Float32]
W8 = tuple[NDArray[np.int8], Float32]


class SourceTensor(ABC):
    """A tensor of a checkpoint. `shape` is [N, K] or [N]; `kind` how it is stored ('q4_1')."""

    name: str
    shape: tuple[int, ...]
    kind: str

    @abstractmethod
    def rows(self, start: int, stop: int) -> Float32:
        """Rows [start, stop): float32 [n, K], or float32 [n] of a vector. Raises ModelError."""

    @abstractmethod
    def rows_w4(self, start: int, stop: int) -> W4 | None:
        """Exact codes uint8 [n, K] in 0..15, scale and minimum float32 [n, K/32]; else None.

        value = scale * code + minimum. Kinds q4_0, q4_1 and q4_k have them.
        """

    @abstractmethod
    def rows_w8(self, start: int, stop: int) -> W8 | None:
        """Exact codes int8 [n, K] and scale float32 [n, K/32]; else None.

        Kinds q8_0, q5_0 and q4_0 have them.
        """


class StoredTensor(SourceTensor):
    """A tensor as it lies in a file: rows one after another."""

    def __init__(
        self, reader: FileReader, offset: int, name: str, shape: tuple[int, ...], kind: str
    ) -> None:
        """`offset` counts from the file's start; the tensor lies inside the file."""
        self.name, self.shape, self.kind = name, shape, kind
        self._reader, self._offset = reader, offset

    def rows(self, start: int, stop: int) -> Float32:
        """Rows as they are. Raises ModelError where a value is not finite."""
        if len(self.shape) == 1:  # a vector is one row: its blocks cannot be cut anywhere else
            out = dequant.dequantise(self.kind, self._raw(0, 1))[0, start:stop]
        else:
            out = dequant.dequantise(self.kind, self._raw(start, stop))
        self._check(out)
        return out

    def rows_w4(self, start: int, stop: int) -> W4 | None:
        """Codes as they are."""
        if self.kind not in dequant.KINDS_4BIT or len(self.shape) == 1:
            return None
        codes = dequant.codes_w4(self.kind, self._raw(start, stop))
        assert codes is not None
        self._check(codes[1])
        self._check(codes[2])
        return codes

    def rows_w8(self, start: int, stop: int) -> W8 | None:
        """Codes as they are."""
        if self.kind not in dequant.EXACT_W8 or len(self.shape) == 1:
            return None
        codes = dequant.codes_w8(self.kind, self._raw(start, stop))
        assert codes is not None
        self._check(codes[1])
        return codes

    def _raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        rows = 1 if len(self.shape) == 1 else self.shape[0]
        assert 0 <= start <= stop <= rows, f"rows {start}..{stop} of {self.name}: {self.shape}"
        size = dequant.row_bytes(self.kind, self.shape[-1])
        data = self._reader.read(self._offset + start * size, (stop - start) * size)
        return np.frombuffer(data, np.uint8).reshape(stop - start, size)

    def _check(self, values: Float32) -> None:
        if not np.isfinite(values).all():
            raise ModelError(
                f"tensor {self.name} has values that are not finite",
                "the file is damaged: fetch it again",
            )


class UnpermutedTensor(SourceTensor):
    """Query or key rows of a llama-arch GGUF file, in Hugging Face's order again.

    The converter interleaves each head's two rotary halves: row h D + 2 j + s there is row
    h D + s D/2 + j here (s = 0, 1; j < D/2). Rows move whole, so codes stay exact.
    """

    def __init__(self, inner: SourceTensor, head_dim: int) -> None:
        """`inner` has whole heads of `head_dim` rows (or, for a bias, values)."""
        assert inner.shape[0] % head_dim == 0 and head_dim % 2 == 0
        self.name, self.shape, self.kind = inner.name, inner.shape, inner.kind
        self._inner, self._head_dim = inner, head_dim

    def rows(self, start: int, stop: int) -> Float32:
        """Rows in the order of halves."""
        low, high, order = self._span(start, stop)
        return self._inner.rows(low, high)[order]

    def rows_w4(self, start: int, stop: int) -> W4 | None:
        """Codes in the order of halves."""
        low, high, order = self._span(start, stop)
        found = self._inner.rows_w4(low, high)
        return None if found is None else (found[0][order], found[1][order], found[2][order])

    def rows_w8(self, start: int, stop: int) -> W8 | None:
        """Codes in the order of halves."""
        low, high, order = self._span(start, stop)
        found = self._inner.rows_w8(low, high)
        return None if found is None else (found[0][order], found[1][order])

    def _span(self, start: int, stop: int) -> tuple[int, int, NDArray[np.intp]]:
        """The whole heads that hold the rows, and the rows' places among them."""
        size = self._head_dim
        low, high = start // size * size, -(-stop // size) * size
        row = np.arange(start, stop)
        within = row % size
        half = size // 2
        return low, high, row - within + within % half * 2 + within // half - low


class OnePlusTensor(SourceTensor):
    """Gemma's norm weights: Hugging Face stores w, the multiplier is 1 + w."""

    def __init__(self, inner: SourceTensor) -> None:
        self.name, self.shape, self.kind = inner.name, inner.shape, inner.kind
        self._inner = inner

    def rows(self, start: int, stop: int) -> Float32:
        """1 + w in float32, as transformers computes it."""
        return np.float32(1) + self._inner.rows(start, stop)

    def rows_w4(self, start: int, stop: int) -> W4 | None:
        """None: vectors stay float32."""
        return None

    def rows_w8(self, start: int, stop: int) -> W8 | None:
        """None: vectors stay float32."""
        return None
