"""Packed weights: the byte layouts that the kernels read, and their exact inverse. Pure NumPy.

N is cut into panels of 32 columns (a weight's rows are the product's columns), each one
forward-only byte stream over K (padded to 32 with zeros):

f32   [K][32] float32
bf16  [K/2][32][2] bf16, pairs along K
w8    per 32 of K: [8][2][16][4] codes (value + 128), then 32 float16 scales; if `asym`, codes
      0..127 as they are, then 32 scales and 32 minima (a 4- or 5-bit file's codes, exactly)
w4    per 32 of K: [4][2][16][4] bytes, low nibble k = 8 step + byte, high nibble 4 further;
      then 32 float16 scales and, if `asym`, 32 float16 minima (else the minimum is -8 scale)

w = scale * code (+ minimum). Columns that are kept in bf16 beside the codes (`outliers`) are
[C/2][32][2] per panel. Not here: where weights come from, and files (models/weights.py).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import GROUP_SIZE

Format = Literal["f32", "bf16", "w8", "w4"]
Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]

PANEL = 32
"""Columns per panel."""

FORMATS: tuple[Format, ...] = ("f32", "bf16", "w8", "w4")
"""In the order of abi.h's enum."""


def round_up(value: int, multiple: int) -> int:
    """The next multiple of `multiple`."""
    return -(-value // multiple) * multiple


def panel_bytes(form: Format, k: int, asym: bool = False) -> int:
    """Bytes of one panel."""
    k_padded = round_up(k, GROUP_SIZE)
    if form == "f32":
        return k_padded * PANEL * 4
    if form == "bf16":
        return k_padded * PANEL * 2
    return k_padded // GROUP_SIZE * _group_bytes(form, asym)


def _group_bytes(form: Format, asym: bool) -> int:
    return {"w8": 1024, "w4": 512}[form] + PANEL * 2 * (2 if asym else 1)


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

    def columns(self, columns: NDArray[np.int32]) -> Float32:
        """float32 [n, len(columns)]: those columns of `dense()`, of w8 and w4."""
        groups = self.data.reshape(len(self.data), -1, _group_bytes(self.format, self.asym))
        of_group = groups[:, columns // GROUP_SIZE]  # [panels, C, bytes]
        at = columns % GROUP_SIZE
        w4 = self.format == "w4"
        byte = at // (8 if w4 else 4) * 128 + at % 4
        where = byte[:, None] + 4 * np.arange(PANEL)
        codes = np.take_along_axis(of_group, where[None], axis=2)
        if w4:
            codes = np.where(at[None, :, None] % 8 < 4, codes & 15, codes >> 4)
        end = 512 if w4 else 1024
        scale = np.ascontiguousarray(of_group[:, :, end : end + 64]).view(np.float16)
        values = codes.astype(np.float32)
        if self.asym:
            lowest = np.ascontiguousarray(of_group[:, :, end + 64 :]).view(np.float16)
            values = values * scale + lowest
        else:
            values = (values - (8 if w4 else 128)) * scale
        return values.transpose(0, 2, 1).reshape(-1, len(columns))[: self.n]

    def dense(self) -> Float32:
        """float32 [n, k]: exactly what the codes stand for."""
        k_padded = round_up(self.k, GROUP_SIZE)
        rows = _UNPACK[self.format](self.data, k_padded, self.asym)
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


def quantise_w8(rows: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Symmetric 8 bits per group of 32 along k: codes int8 [n, k'], scale float32 [n, k'/32].

    The scale is rounded to float16 first, so that the codes fit the scale that is kept.
    """
    x: Float32 = _pad_k(rows)
    groups = x.reshape(len(x), -1, GROUP_SIZE)
    scale = (np.abs(groups).max(axis=2) / 127).astype(np.float16).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.clip(np.rint(groups * inverse[..., None]), -127, 127).astype(np.int8)
    return codes.reshape(x.shape), scale


def quantise_w4(rows: Float32) -> tuple[NDArray[np.uint8], Float32, Float32]:
    """Asymmetric 4 bits per group of 32: codes uint8 [n, k'], scale and minimum [n, k'/32]."""
    x: Float32 = _pad_k(rows)
    groups = x.reshape(len(x), -1, GROUP_SIZE)
    low = np.minimum(groups.min(axis=2), 0).astype(np.float16).astype(np.float32)
    high = np.maximum(groups.max(axis=2), 0)
    scale = ((high - low) / 15).astype(np.float16).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.clip(np.rint((groups - low[..., None]) * inverse[..., None]), 0, 15)
    return codes.astype(np.uint8).reshape(x.shape), scale, low


def _pad_k(rows: Float32) -> Float32:
    n, k = rows.shape
    if k % GROUP_SIZE == 0:
        return rows
    out = np.zeros((n, round_up(k, GROUP_SIZE)), np.float32)
    out[:, :k] = rows
    return out


def pack_w8(codes: NDArray[np.int8], scale: Float32) -> Bytes:
    """Codes int8 [n, k] and scales [n, k/32] (k a multiple of 32) -> [panels, bytes]."""
    shifted = _pad((codes.astype(np.int16) + 128).astype(np.uint8), 128)
    panels, groups = shifted.shape[0] // PANEL, shifted.shape[1] // GROUP_SIZE
    out = np.empty((panels, groups, _group_bytes("w8", False)), np.uint8)
    order = shifted.reshape(panels, 2, 16, groups, 8, 4).transpose(0, 3, 4, 1, 2, 5)
    out[:, :, :1024] = order.reshape(panels, groups, 1024)
    out[:, :, 1024:] = _halves(scale, panels)
    return out.reshape(panels, -1)


def pack_w8_asym(codes: NDArray[np.uint8], scale: Float32, minimum: Float32) -> Bytes:
    """Codes uint8 [n, k] in 0..127, scales and minima [n, k/32] -> [panels, bytes]."""
    padded = _pad(codes)
    panels, groups = padded.shape[0] // PANEL, padded.shape[1] // GROUP_SIZE
    out = np.empty((panels, groups, _group_bytes("w8", True)), np.uint8)
    order = padded.reshape(panels, 2, 16, groups, 8, 4).transpose(0, 3, 4, 1, 2, 5)
    out[:, :, :1024] = order.reshape(panels, groups, 1024)
    out[:, :, 1024:1088] = _halves(scale, panels)
    out[:, :, 1088:] = _halves(minimum, panels)
    return out.reshape(panels, -1)


def pack_w4(codes: NDArray[np.uint8], scale: Float32, minimum: Float32, asym: bool) -> Bytes:
    """Codes uint8 [n, k] in 0..15, scales and minima [n, k/32] -> [panels, bytes]."""
    padded = _pad(codes, 0 if asym else 8)
    panels, groups = padded.shape[0] // PANEL, padded.shape[1] // GROUP_SIZE
    out = np.empty((panels, groups, _group_bytes("w4", asym)), np.uint8)
    order = padded.reshape(panels, 2, 16, groups, 4, 2, 4).transpose(5, 0, 3, 4, 1, 2, 6)
    out[:, :, :512] = (order[0] | order[1] << 4).reshape(panels, groups, 512)
    out[:, :, 512:576] = _halves(scale, panels)
    if asym:
        out[:, :, 576:] = _halves(minimum, panels)
    return out.reshape(panels, -1)


def _halves(values: Float32, panels: int) -> Bytes:
    padded = np.zeros((panels * PANEL, values.shape[1]), np.float16)
    padded[: len(values)] = values
    by_group = padded.reshape(panels, PANEL, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(by_group).view(np.uint8)


def _unpack_f32(data: Bytes, k: int, asym: bool) -> Float32:
    panels = data.reshape(len(data), -1).view(np.float32).reshape(-1, k, PANEL)
    return panels.transpose(0, 2, 1).reshape(-1, k)


def _unpack_bf16(data: Bytes, k: int, asym: bool) -> Float32:
    panels = data.reshape(len(data), -1).view(np.uint16).reshape(-1, k // 2, PANEL, 2)
    return from_bf16(panels.transpose(0, 2, 1, 3).reshape(-1, k))


def _unpack_w8(data: Bytes, k: int, asym: bool) -> Float32:
    panels, groups = len(data), k // GROUP_SIZE
    parts = data.reshape(panels, groups, -1)
    codes = parts[:, :, :1024].reshape(panels, groups, 8, 2, 16, 4).transpose(0, 3, 4, 1, 2, 5)
    values = codes.reshape(-1, groups, GROUP_SIZE).astype(np.float32)
    scale = _scales(parts[:, :, 1024:1088])[:, :, None]
    if asym:
        return (values * scale + _scales(parts[:, :, 1088:])[:, :, None]).reshape(-1, k)
    return ((values - 128) * scale).reshape(-1, k)


def _unpack_w4(data: Bytes, k: int, asym: bool) -> Float32:
    panels, groups = len(data), k // GROUP_SIZE
    parts = data.reshape(panels, groups, -1)
    both = parts[:, :, :512].reshape(panels, groups, 4, 2, 16, 4)
    codes = np.stack([both & 15, both >> 4]).transpose(1, 4, 5, 2, 3, 0, 6)
    values = codes.reshape(-1, groups, GROUP_SIZE).astype(np.float32)
    scale = _scales(parts[:, :, 512:576])[:, :, None]
    if asym:
        return (values * scale + _scales(parts[:, :, 576:])[:, :, None]).reshape(-1, k)
    return ((values - 8) * scale).reshape(-1, k)


def _scales(halves: Bytes) -> Float32:
    by_group = np.ascontiguousarray(halves).view(np.float16)
    return by_group.transpose(0, 2, 1).reshape(-1, by_group.shape[1]).astype(np.float32)


_UNPACK = {"f32": _unpack_f32, "bf16": _unpack_bf16, "w8": _unpack_w8, "w4": _unpack_w4}
