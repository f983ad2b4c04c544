"""Block formats against what ggml itself reads out of the same bytes."""

import numpy as np
import pytest

from engine.models.model_files import GOLDEN
from sixfold.engine.models import dequant


@pytest.fixture(scope="module")
def blobs():
    with np.load(GOLDEN / "gguf_blobs.npz") as file:
        return dict(file)


@pytest.mark.parametrize("rows", ["", "_wild"])
@pytest.mark.parametrize("kind", dequant.READABLE)
def test_values_equal_ggml_to_the_last_bit(blobs, kind, rows):
    raw, expected = blobs[f"{kind.upper()}{rows}_raw"], blobs[f"{kind.upper()}{rows}_f32"]
    assert np.array_equal(dequant.dequantise(kind, raw), expected)


@pytest.mark.parametrize("rows", ["", "_wild"])
@pytest.mark.parametrize("kind", dequant.KINDS_4BIT)
def test_4_bit_codes_are_exact(blobs, kind, rows):
    raw, expected = blobs[f"{kind.upper()}{rows}_raw"], blobs[f"{kind.upper()}{rows}_f32"]
    codes, scale, minimum = dequant.codes_w4(kind, raw)
    assert codes.dtype == np.uint8 and codes.max() <= 15
    assert scale.shape == minimum.shape == (len(raw), 512 // 32)
    values = codes.reshape(len(raw), -1, 32) * scale[:, :, None] + minimum[:, :, None]
    assert np.array_equal(values.reshape(expected.shape), expected)


@pytest.mark.parametrize("rows", ["", "_wild"])
@pytest.mark.parametrize("kind", ["q8_0", "q5_0", "q4_0"])
def test_8_bit_codes_are_exact(blobs, kind, rows):
    raw, expected = blobs[f"{kind.upper()}{rows}_raw"], blobs[f"{kind.upper()}{rows}_f32"]
    codes, scale = dequant.codes_w8(kind, raw)
    assert codes.dtype == np.int8 and scale.shape == (len(raw), 512 // 32)
    values = codes.reshape(len(raw), -1, 32) * scale[:, :, None]
    assert np.array_equal(values.reshape(expected.shape), expected)


def test_other_kinds_have_no_exact_codes(blobs):
    assert dequant.codes_w4("q8_0", blobs["Q8_0_raw"]) is None
    assert dequant.codes_w8("q6_k", blobs["Q6_K_raw"]) is None
