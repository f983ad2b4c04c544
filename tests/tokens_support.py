"""Tiny vocabularies, and the real ones where `make test` has pulled them, for tests of tokens."""

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from sixfold.engine.models.tokenizer import Tokenizer, load_tokenizer, tokenizer_from_metadata
from sixfold.engine.models.tokenizer_text import _CHAR_TO_BYTE

HOME = Path(os.environ.get("SIXFOLD_HOME") or Path.home() / ".cache" / "sixfold")
BYTE_CHARS = sorted(_CHAR_TO_BYTE, key=_CHAR_TO_BYTE.__getitem__)
SPACE = "\u2581"


def model_file(name: str) -> Path | None:
    """The pulled GGUF file of a registry model, if it is here."""
    return next(iter(sorted((HOME / "models" / name).glob("*.gguf"))), None)


def needs(name: str) -> pytest.MarkDecorator:
    """For tests of a real vocabulary."""
    return pytest.mark.skipif(
        model_file(name) is None, reason=f"{name} is not pulled: run `sixfold pull {name}`"
    )


@functools.cache
def real_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a pulled model."""
    path = model_file(name)
    assert path is not None
    return load_tokenizer(path)


WORDS = ["Ġthe", "he", "in", "ing", "Ġa", "ĠĠ", "ĊĊ", "Ã©", "lo", "llo", "hello"]
MERGES = ["h e", "Ġt he", "i n", "in g", "Ġ a", "Ġ Ġ", "Ċ Ċ", "Ã ©", "l o", "l lo", "he llo"]


def bpe_metadata(pre: str = "gpt-2", **changes: Any) -> dict[str, Any]:
    """A GGUF byte-level vocabulary: all bytes, a few merges, three special tokens."""
    tokens = [*BYTE_CHARS, "Ġt", *WORDS, "<|start|>x", "<|stop|>", "<user>"]
    count = len(tokens)
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (count - 3) + [3, 3, 4],
        "tokenizer.ggml.merges": ["Ġ t", *MERGES],
        "tokenizer.ggml.bos_token_id": count - 3,
        "tokenizer.ggml.eos_token_id": count - 2,
        "tokenizer.chat_template": "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
    }
    return metadata | {f"tokenizer.ggml.{k}": v for k, v in changes.items()}


def spm_metadata(**changes: Any) -> dict[str, Any]:
    """A GGUF SentencePiece vocabulary: byte tokens, letters, a few words with scores."""
    head = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    words = [SPACE, *"abcdehlortw", "é", "ab", "bc", "abc", "he", "ll", "llo", "hello"]
    words += [SPACE + "he", SPACE + "hello", SPACE * 2, SPACE * 4, "aa", "aaa", "aaaa"]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": head + words,
        "tokenizer.ggml.scores": [0.0] * len(head) + [-float(i) for i in range(len(words))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(words),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    return metadata | {f"tokenizer.ggml.{k}": v for k, v in changes.items()}


@functools.cache
def tiny_bpe() -> Tokenizer:
    """`bpe_metadata` as a tokenizer."""
    return tokenizer_from_metadata(bpe_metadata())


@functools.cache
def tiny_spm(add_space_prefix: bool = True) -> Tokenizer:
    """`spm_metadata` as a tokenizer."""
    return tokenizer_from_metadata(spm_metadata(add_space_prefix=add_space_prefix))
