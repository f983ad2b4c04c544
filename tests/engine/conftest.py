"""Models that engines are tested with."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

GEMMA = Path(__file__).parents[1] / "golden" / "tiny" / "gemma3"
"""Sliding windows of fewer tokens than most prompts have; without a tokenizer."""


@pytest.fixture(scope="session")
def gemma(tmp_path_factory) -> str:
    """The tiny Gemma 3 with a tokenizer: one token a byte."""
    folder = tmp_path_factory.mktemp("gemma3")
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(GEMMA / name)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)
