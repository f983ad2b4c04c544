"""Rotary position tables, shared by the native and the reference executor.

Does not rotate anything: it only says by which angles. Layout is neox: element d of the first
half and element d + D/2 turn together by angle position * inv_freq[d] (Su et al., 2021).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sixfold.core.config import RopeConfig

Float32 = NDArray[np.float32]


def inv_freq(rope: RopeConfig, head_dim: int) -> Float32:
    """Angle per position of each pair: float32 [D/2], computed in float64.

    Linear scaling divides positions, which is the same as dividing the frequencies.
    """
    assert head_dim % 2 == 0, "rotary embedding pairs elements: head_dim must be even"
    exponent = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    freq = rope.theta**-exponent / rope.linear_factor
    if rope.llama3 is not None:
        freq = _llama3_bands(freq, rope.llama3)
    return freq.astype(np.float32)


def cos_sin(rope: RopeConfig, head_dim: int, positions: ArrayLike) -> tuple[Float32, Float32]:
    """Tables (cos, sin), float32 [len(positions), D/2] each.

    The angle is a float32 product, as in Hugging Face's models, so that far positions agree with
    theirs; its cosine and sine are then exact to float32's last bit.
    """
    where = np.asarray(positions, dtype=np.float32)
    angle = (where[:, None] * inv_freq(rope, head_dim)).astype(np.float64)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _llama3_bands(
    freq: NDArray[np.float64], scaling: tuple[float, float, float, int]
) -> NDArray[np.float64]:
    """Llama 3's scaling: long waves slow down by `factor`, short ones stay, a ramp between.

    Source: apply_scaling in Meta's llama-models (reference_impl/model.py).
    """
    factor, low, high, original = scaling
    wavelength = 2 * math.pi / freq
    ramp = np.clip((original / wavelength - low) / (high - low), 0.0, 1.0)
    return (1 - ramp) * freq / factor + ramp * freq
