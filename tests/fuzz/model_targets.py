"""Fuzz targets: damaged model files must give SixfoldError or a checkpoint that reads.

Each entry of TARGETS is (name, seeds, function of bytes, mutator). Functions return normally for
any input; what escapes is a finding.
"""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.models.gguf_writer import f32_tensor, gguf_bytes
from engine.models.model_files import MIXED, TINY, small_gguf, small_llama
from fuzz.mutate import mutate
from fuzz.mutate_bytes import mutate_bytes
from sixfold.core.errors import SixfoldError
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.gguf import StringArray, read_gguf

Mutator = Callable[[bytes, random.Random], bytes]


def _use(path: Path) -> None:
    """Everything that is asked of a checkpoint: every row, every way."""
    try:
        checkpoint = open_checkpoint(path, path.parent / "cache")
    except SixfoldError as error:
        assert error.hint, "an error without a hint"
        str(error).encode(errors="backslashreplace")
        return
    for tensor in checkpoint.tensors.values():
        rows = tensor.shape[0]
        try:
            values = tensor.rows(0, rows)
            assert values.shape == tensor.shape
            if len(tensor.shape) == 2:
                tensor.rows_w4(rows // 2, rows)
                tensor.rows_w8(rows // 2, rows)
        except SixfoldError:
            continue


def gguf(data: bytes) -> None:
    """`data` is a .gguf file."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "model.gguf")
        path.write_bytes(data)
        _use(path)
        try:
            for value in read_gguf(path).metadata.values():
                if isinstance(value, StringArray):
                    value.tolist()
        except SixfoldError:
            return


def _directory(base: str, file: str) -> Callable[[bytes], None]:
    """A target that puts `data` in place of one file of a sound model directory."""
    sound = {p.name: p.read_bytes() for p in (TINY / base).iterdir() if p.is_file()}

    def target(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as name:
            files = dict(sound)
            if file.endswith(".index.json"):
                files["one.safetensors"] = files.pop("model.safetensors")
            for place, content in (files | {file: data}).items():
                Path(name, place).write_bytes(content)
            _use(Path(name))

    return target


def _seed(base: str, file: str) -> bytes:
    return (TINY / base / file).read_bytes()


def _index(base: str) -> bytes:
    raw = _seed(base, "model.safetensors")
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    header.pop("__metadata__", None)
    return json.dumps(
        {"metadata": {}, "weight_map": dict.fromkeys(header, "one.safetensors")}
    ).encode()


def _with_everything() -> bytes:
    """A GGUF file with rope factors and every kind of metadata value."""
    metadata, tensors = small_llama(MIXED)
    metadata |= {"flags": [True, False], "floats": [0.5], "general.alignment": 64}
    factors = f32_tensor("rope_freqs.weight", np.ones(16))
    return gguf_bytes(metadata, [*tensors, factors], alignment=64)


_GENERATION = json.dumps({"eos_token_id": [1, 2], "bos_token_id": 1}).encode()

TARGETS: list[tuple[str, list[bytes], Callable[[bytes], None], Mutator]] = [
    ("gguf", [small_gguf(), small_gguf(MIXED), _with_everything()], gguf, mutate_bytes),
    (
        "safetensors",
        [_seed("qwen3", "model.safetensors")],
        _directory("qwen3", "model.safetensors"),
        mutate_bytes,
    ),
    (
        "config.json",
        [_seed("gemma3", "config.json"), _seed("llama_rope3", "config.json")],
        _directory("gemma3", "config.json"),
        mutate,
    ),
    (
        "generation_config.json",
        [_GENERATION],
        _directory("llama", "generation_config.json"),
        mutate,
    ),
    (
        "model.safetensors.index.json",
        [_index("qwen2")],
        _directory("qwen2", "model.safetensors.index.json"),
        mutate,
    ),
]
