"""Packed weights: the byte layouts that the kernels read, and their exact inverse. Pure NumPy.

N is cut into panels of 32 columns (a weight's rows are the product's columns), each one
forward-only byte stream over K (padded to 32 with zeros):

f32   [K][32] float32
bf16  [K/2][32][2] bf16, pairs along K
w8    per 32 of K: [8][2][16][4] codes (value + 128); if `asym`, codes 0..127 as they are (a 4- or
      5-bit file's codes, exactly)
w4    per 32 of K: [4][2][16][4] bytes, low nibble k = 8 step + byte, high nibble 4 further
both  behind the codes of each group (32, 64 or 128 of K; the last may be shorter) 32 float16
      scales and, if `asym`, 32 float16 minima (else the minimum is -8 or -128 scale)

w = scale * code (+ minimum). Columns that are kept in bf16 beside the codes (`outliers`) are
[C/2][32][2] per panel. Not here: where weights come from, and files (models/weights.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import BLOCK_SIZE, GROUP_SIZE

Format = Literal["f32", "bf16", "w8", "w4"]
Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]

PANEL = 32
"""Columns per panel."""

RUN_BYTES = {"w8": 1024, "w4": 512}
"""Codes of 32 columns and 32 values along K."""

FORMATS: tuple[Format, ...] = ("f32", "bf16", "w8", "w4")
"""In the order of abi.h's enum."""


KVDtype = Literal["bf16", "f32", "int8"]
KV_DTYPES: tuple[KVDtype, ...] = ("bf16", "f32", "int8")
"""What a KV cache holds, in the order of abi.h's enum."""


def page_bytes(head_dim: int, kv_dtype: KVDtype) -> int:
    """Bytes of one head's keys and values of one block (layouts: native/ops/rows.inl)."""
    values = 2 * BLOCK_SIZE * head_dim
    if kv_dtype == "int8":
        return values + 2 * BLOCK_SIZE * 4  # a float32 scale per token, for keys and for values
    return values * (4 if kv_dtype == "f32" else 2)


def round_up(value: int, multiple: int) -> int:
    """The next multiple of `multiple`."""
    return -(-value // multiple) * multiple


def panel_bytes(form: Format, k: int, asym: bool = False, group: int = GROUP_SIZE) -> int:
    """Bytes of one panel; `group`: values along K per scale of w8 and w4."""
    k_padded = round_up(k, GROUP_SIZE)
    if form in ("f32", "bf16"):
        return k_padded * PANEL * (4 if form == "f32" else 2)
    return k_padded // GROUP_SIZE * RUN_BYTES[form] + -(-k_padded // group) * _scale_bytes(asym)


def _scale_bytes(asym: bool) -> int:
    return PANEL * 2 * (2 if asym else 1)


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A [n, k] matrix in panels; `data` is uint8 [panels, panel_bytes], often a view of a file."""

    format: Format
    n: int
    k: int
    data: Bytes
    asym: bool = False
    outliers: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """w8, w4: input columns, ascending and of an even number, whose products are in bf16."""
    group: int = GROUP_SIZE
    """w8, w4: values along K per scale: 32, 64 or 128."""

    def columns(self, columns: NDArray[np.int32]) -> Float32:
        """float32 [n, len(columns)]: those columns of `dense()`, of w8 and w4."""
        w4 = self.format == "w4"
        runs, halves = _split(self.data, self.format, self.asym, self.group)
        at = columns % GROUP_SIZE
        byte = at // (8 if w4 else 4) * 128 + at % 4
        where = byte[:, None] + 4 * np.arange(PANEL)
        codes = np.take_along_axis(runs[:, columns // GROUP_SIZE], where[None], axis=2)
        if w4:
            codes = np.where(at[None, :, None] % 8 < 4, codes & 15, codes >> 4)
        of_group = np.ascontiguousarray(halves[:, columns // self.group]).view(np.float16)
        values = codes.astype(np.float32)
        if self.asym:
            values = values * of_group[:, :, :PANEL] + of_group[:, :, PANEL:]
        else:
            values = (values - (8 if w4 else 128)) * of_group
        return values.transpose(0, 2, 1).reshape(-1, len(columns))[: self.n]

    def dense(self) -> Float32:
        """float32 [n, k]: exactly what the codes stand for."""
        k_padded = round_up(self.k, GROUP_SIZE)
        if self.format == "f32":
            rows = _unpack_f32(self.data, k_padded)
        elif self.format == "bf16":
            rows = _unpack_bf16(self.data, k_padded)
        else:
            rows = _unpack_codes(self)
        return np.ascontiguousarray(rows[: self.n, : self.k])


def to_bf16(x: Float32) -> NDArray[np.uint16]:
    """Round to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def from_bf16(x: NDArray[np.uint16]) -> Float32:
    """Exact."""
    return (x.astype(np.uint32) << 16).view(np.float32)


def _pad(rows: NDArray[np.generic], fill: float = 0) -> NDArray[np.generic]:
    n, k = rows.shape
    shape = (round_up(n, PANEL), round_up(k, GROUP_SIZE))
    if shape == (n, k):
        return rows
    out = np.full(shape, fill, rows.dtype)
    out[:n, :k] = rows
    return out


def pack_f32(rows: Float32) -> Bytes:
    """float32 [n, k] -> [panels, bytes]."""
    x = _pad(rows.astype(np.float32, copy=False))
    panels = x.reshape(-1, PANEL, x.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(panels).view(np.uint8).reshape(len(panels), -1)


def pack_bf16(rows: Float32) -> Bytes:
    """float32 [n, k] -> [panels, bytes], rounded to nearest even."""
    x = to_bf16(_pad(rows))  # type: ignore[arg-type]
    panels = x.reshape(-1, PANEL, x.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(panels).view(np.uint8).reshape(len(panels), -1)


def pack_columns(columns: Float32) -> Bytes:
    """float32 [n, C] (C even) -> bf16 in bytes [panels, C * 64], for the columns kept beside."""
    n, count = columns.shape
    padded = np.zeros((round_up(n, PANEL), count), np.uint16)
    padded[:n] = to_bf16(columns)
    panels = padded.reshape(-1, PANEL, count // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(panels).view(np.uint8).reshape(len(panels), -1)


def quantise_w8(rows: Float32, group: int = GROUP_SIZE) -> tuple[NDArray[np.int8], Float32]:
    """Symmetric 8 bits per group along k: codes int8 [n, k'], scale float32 [n, k'/group].

    The scale is rounded to float16 first, so that the codes fit the scale that is kept. k' is k
    rounded up to 32; the last group may be shorter.
    """
    groups = _grouped(rows, group)
    scale = (np.abs(groups).max(axis=2) / 127).astype(np.float16).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.clip(np.rint(groups * inverse[..., None]), -127, 127).astype(np.int8)
    return _ungrouped(codes, rows.shape[1]), scale


def quantise_w4(
    rows: Float32, group: int = GROUP_SIZE
) -> tuple[NDArray[np.uint8], Float32, Float32]:
    """Asymmetric 4 bits per group: codes uint8 [n, k'], scale and minimum [n, k'/group]."""
    groups = _grouped(rows, group)
    low = np.minimum(groups.min(axis=2), 0).astype(np.float16).astype(np.float32)
    high = np.maximum(groups.max(axis=2), 0)
    scale = ((high - low) / 15).astype(np.float16).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.clip(np.rint((groups - low[..., None]) * inverse[..., None]), 0, 15)
    return _ungrouped(codes.astype(np.uint8), rows.shape[1]), scale, low


def _grouped(rows: Float32, group: int) -> Float32:
    """[n, k] -> [n, groups, group], padded with zeros."""
    n, k = rows.shape
    out = rows
    if k % group:
        out = np.zeros((n, round_up(k, group)), np.float32)
        out[:, :k] = rows
    return out.reshape(n, -1, group)


def _ungrouped(codes: NDArray[Any], k: int) -> NDArray[Any]:
    return codes.reshape(len(codes), -1)[:, : round_up(k, GROUP_SIZE)]


def pack_w8(codes: NDArray[np.int8], scale: Float32, group: int = GROUP_SIZE) -> Bytes:
    """Codes int8 [n, k] and scales [n, k/group] (k a multiple of 32) -> [panels, bytes]."""
    shifted = (codes.astype(np.int16) + 128).astype(np.uint8)
    return _joined(_runs_w8(_pad(shifted, 128)), [scale], group)


def pack_w8_asym(codes: NDArray[np.uint8], scale: Float32, minimum: Float32) -> Bytes:
    """Codes uint8 [n, k] in 0..127, scales and minima [n, k/32] -> [panels, bytes]."""
    return _joined(_runs_w8(_pad(codes)), [scale, minimum], GROUP_SIZE)


def pack_w4(
    codes: NDArray[np.uint8], scale: Float32, minimum: Float32, asym: bool, group: int = GROUP_SIZE
) -> Bytes:
    """Codes uint8 [n, k] in 0..15, scales and minima [n, k/group] -> [panels, bytes]."""
    padded = _pad(codes, 0 if asym else 8)
    panels, runs = padded.shape[0] // PANEL, padded.shape[1] // GROUP_SIZE
    order = padded.reshape(panels, 2, 16, runs, 4, 2, 4).transpose(5, 0, 3, 4, 1, 2, 6)
    both = (order[0] | order[1] << 4).reshape(panels, runs, RUN_BYTES["w4"])
    return _joined(both, [scale, minimum] if asym else [scale], group)


def _runs_w8(codes: NDArray[np.generic]) -> Bytes:
    """[n, k] -> [panels, runs of 32 along k, 1024]."""
    panels, runs = codes.shape[0] // PANEL, codes.shape[1] // GROUP_SIZE
    order = codes.reshape(panels, 2, 16, runs, 8, 4).transpose(0, 3, 4, 1, 2, 5)
    return order.reshape(panels, runs, RUN_BYTES["w8"]).view(np.uint8)


def _joined(runs: Bytes, scales: list[Float32], group: int) -> Bytes:
    """Codes [panels, runs, bytes], behind each group of runs its scales (and minima)."""
    panels, count, size = runs.shape
    halves = np.concatenate([_halves(values, panels) for values in scales], axis=2)
    each = group // GROUP_SIZE
    assert halves.shape[1] == -(-count // each), "scales do not fit the codes"
    out = np.empty((panels, count * size + halves.shape[1] * halves.shape[2]), np.uint8)
    for codes, of_groups, first, groups in _views(out, size, halves.shape[2], each, count):
        behind = first * each + groups * codes.shape[2]
        codes[:] = runs[:, first * each : behind].reshape(codes.shape)
        of_groups[:] = halves[:, first : first + groups]
    return out


def _split(data: Bytes, form: Format, asym: bool, group: int) -> tuple[Bytes, Bytes]:
    """The inverse of `_joined`: codes [panels, runs, bytes], halves [panels, groups, bytes]."""
    size, extra, each = RUN_BYTES[form], _scale_bytes(asym), group // GROUP_SIZE
    width = data.shape[1]
    groups = -(-width // (size * each + extra))
    count = (width - groups * extra) // size
    parts = list(_views(data, size, extra, each, count))
    return (np.concatenate([a[0].reshape(len(data), -1, size) for a in parts], axis=1),
            np.concatenate([a[1] for a in parts], axis=1))  # fmt: skip


def _views(
    data: Bytes, size: int, extra: int, each: int, count: int
) -> Iterator[tuple[Bytes, Bytes, int, int]]:
    """Views into panels [panels, bytes], of the whole groups and then of the last, shorter one:
    codes [panels, groups, runs, size], scales [panels, groups, extra], first group, groups."""
    whole = count // each
    border = whole * (each * size + extra)
    if whole:
        body = data[:, :border].reshape(len(data), whole, each * size + extra)
        codes = body[:, :, : each * size].reshape(len(data), whole, each, size)
        yield codes, body[:, :, each * size :], 0, whole
    if count > whole * each:
        tail = data[:, border:].reshape(len(data), 1, -1)
        codes = tail[:, :, :-extra].reshape(len(data), 1, -1, size)
        yield codes, tail[:, :, -extra:], whole, 1


def _halves(values: Float32, panels: int) -> Bytes:
    padded = np.zeros((panels * PANEL, values.shape[1]), np.float16)
    padded[: len(values)] = values
    by_group = padded.reshape(panels, PANEL, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(by_group).view(np.uint8)


def _unpack_f32(data: Bytes, k: int) -> Float32:
    panels = data.reshape(len(data), -1).view(np.float32).reshape(-1, k, PANEL)
    return panels.transpose(0, 2, 1).reshape(-1, k)


def _unpack_bf16(data: Bytes, k: int) -> Float32:
    panels = data.reshape(len(data), -1).view(np.uint16).reshape(-1, k // 2, PANEL, 2)
    return from_bf16(panels.transpose(0, 2, 1, 3).reshape(-1, k))


def _unpack_codes(w: PackedWeight) -> Float32:
    """w8 and w4."""
    runs, halves = _split(w.data, w.format, w.asym, w.group)
    panels, count = runs.shape[:2]
    if w.format == "w4":
        both = runs.reshape(panels, count, 4, 2, 16, 4)
        codes = np.stack([both & 15, both >> 4]).transpose(1, 4, 5, 2, 3, 0, 6)
    else:
        codes = runs.reshape(panels, count, 8, 2, 16, 4).transpose(0, 3, 4, 1, 2, 5)
    values = codes.reshape(-1, count, GROUP_SIZE).astype(np.float32)
    each = w.group // GROUP_SIZE

    def of_runs(part: Bytes) -> Float32:
        return np.repeat(_scales(part), each, axis=1)[:, :count, None]

    scale = of_runs(halves[:, :, :64])
    if w.asym:
        return (values * scale + of_runs(halves[:, :, 64:])).reshape(len(values), -1)
    zero = 8 if w.format == "w4" else 128
    return ((values - zero) * scale).reshape(len(values), -1)


def _scales(halves: Bytes) -> Float32:
    by_group = np.ascontiguousarray(halves).view(np.float16)
    return by_group.transpose(0, 2, 1).reshape(-1, by_group.shape[1]).astype(np.float32)
