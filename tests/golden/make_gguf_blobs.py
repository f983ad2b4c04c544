"""Make ``gguf_blobs.npz``: rows in the GGUF block formats, and what ggml reads out of them.

Two kinds of rows, 512 values (two super-blocks of the K formats) wide, for each type T of F32, F16,
BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K:

- ``T_raw`` ``[R, bytes]`` uint8: the rows of ``source`` ``[R, 512]`` float32 (normal, zero, large,
  tiny, outliers, constant, ...; ``kinds`` names them) quantised by ggml's ``ggml_quantize_chunk``;
- ``T_wild_raw`` ``[2, bytes]`` uint8: random bits with finite scales, so that every sub-scale,
  sign and high bit occurs, also those that a quantiser would never write;
- ``T_f32``, ``T_wild_f32`` ``[R, 512]`` float32: the values, by ggml's own ``to_float``.

Made with: ggml of the llama-cpp-python 0.3.36 source package; gguf 0.19.0 (its NumPy dequantiser is
run as a second opinion, and the largest difference is printed); numpy 2.4.6.

    python make_gguf_blobs.py LIBGGML_BASE [--out DIR]
"""

import argparse
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from llama_cpp import Ggml

WIDTH = 512
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Byte offsets of the float16 fields inside one block.
SCALES = {
    "Q8_0": [0],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
BLOCK_BYTES = {
    "Q8_0": 34,
    "Q4_0": 18,
    "Q4_1": 20,
    "Q5_0": 22,
    "Q5_1": 24,
    "Q4_K": 144,
    "Q5_K": 176,
    "Q6_K": 210,
}


def source_rows(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows of float32 values, by kind."""
    normal = rng.standard_normal((8, WIDTH)).astype(np.float32)
    outliers = normal[1].copy()
    outliers[rng.integers(0, WIDTH, 6)] *= 100
    block_scales = np.exp2(rng.integers(-12, 6, WIDTH // 32)).repeat(32)
    return {
        "normal": normal[0] * 0.05,
        "outliers": outliers,
        "zero": np.zeros(WIDTH),
        "negative zero": -np.zeros(WIDTH),
        "large": normal[2] * 1e4,
        "small": normal[3] * 1e-5,
        "below float16": normal[4] * 1e-9,
        "constant": np.full(WIDTH, -0.75),
        "ramp": np.linspace(-1, 1, WIDTH),
        "positive": np.abs(normal[5]) + 3,
        "sparse": normal[6] * (rng.random(WIDTH) < 0.05),
        "block scales": normal[7] * block_scales,
    }


def wild_rows(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Two rows of random bits in which every float field is finite: ``[2, bytes]`` uint8."""
    if kind in SCALES:
        blocks = 2 * WIDTH // (256 if kind.endswith("_K") else 32)
        data = rng.integers(0, 256, (blocks, BLOCK_BYTES[kind]), np.uint8)
        for offset in SCALES[kind]:
            scale = rng.uniform(-2, 2, blocks).astype(np.float16)
            data[:, offset : offset + 2] = scale.view(np.uint8).reshape(blocks, 2)
        return data.reshape(2, -1)
    words = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}[kind]
    exponent = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[kind]
    bits = rng.integers(0, np.iinfo(words).max, (2, WIDTH), words, endpoint=True)
    bits[(bits & exponent) == exponent] &= ~words(exponent)  # no infinity, no NaN
    return bits.view(np.uint8).reshape(2, -1)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("libggml_base", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    ggml = Ggml(args.libggml_base)
    rng = np.random.default_rng(20240506)
    rows = source_rows(rng)
    source = np.stack(list(rows.values())).astype(np.float32)
    arrays: dict[str, np.ndarray] = {"source": source, "kinds": np.array(list(rows))}
    for kind in TYPES:
        number = GGMLQuantizationType[kind]
        raw = source.view(np.uint8) if kind == "F32" else ggml.quantize(source, number)
        for name, data in ((kind, raw), (f"{kind}_wild", wild_rows(kind, rng))):
            values = ggml.dequantize(data, number, WIDTH)
            second = dequantize(data, number).reshape(values.shape)
            assert np.isfinite(values).all(), name
            print(f"{name}: {data.shape}, against gguf {np.abs(values - second).max():.1e}")
            arrays[f"{name}_raw"], arrays[f"{name}_f32"] = data, values
    np.savez_compressed(args.out / "gguf_blobs.npz", **arrays)


if __name__ == "__main__":
    main()
