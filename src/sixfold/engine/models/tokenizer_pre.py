"""The stated table of GGUF tokenizers: (tokenizer.ggml.model, tokenizer.ggml.pre) to rules.

A pair is in the table when its ids were compared with llama.cpp's own on that model's
vocabulary and were equal on every string. A pair that is not here is an error, never a guess:
a wrong split changes the model's answers without any sign. Not here: merging and vocabularies.
"""

from typing import NamedTuple


class PreTokenizer(NamedTuple):
    """How a byte-level BPE vocabulary wants its text cut before merging.

    `patterns` are applied in order, each to the pieces of the one before; a match and what lies
    between matches both become pieces. `ignore_merges`: a piece that is a token is taken whole.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


_ENGLISH = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"


def _modern(digits: str) -> str:
    """The pattern of Llama 3 and Qwen 2, which differ in how digits are grouped."""
    return (
        _ENDINGS
        + r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_QWEN35 = (
    _ENDINGS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_EAST_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

_GPT2 = PreTokenizer((_ENGLISH,))
_DIGITWISE = PreTokenizer((r"\p{N}", _ENGLISH))
_LLAMA3 = PreTokenizer((_modern(r"\p{N}{1,3}"),), ignore_merges=True, add_bos=True)
_QWEN2 = PreTokenizer((_modern(r"\p{N}"),))

BYTE_LEVEL: dict[tuple[str, str], PreTokenizer] = {
    ("gpt2", "gpt-2"): _GPT2,
    ("gpt2", "mpt"): _GPT2,
    ("gpt2", "smollm"): _DIGITWISE,
    ("gpt2", "starcoder"): _DIGITWISE,
    ("gpt2", "refact"): _DIGITWISE,
    ("gpt2", "command-r"): _DIGITWISE,
    ("gpt2", "llama-bpe"): _LLAMA3,
    ("gpt2", "llama3"): _LLAMA3,
    ("gpt2", "llama-v3"): _LLAMA3,
    ("gpt2", "qwen2"): _QWEN2,
    ("gpt2", "deepseek-r1-qwen"): _QWEN2,
    ("gpt2", "qwen35"): PreTokenizer((_QWEN35,)),
    ("gpt2", "falcon"): PreTokenizer(
        (r"[\p{P}\$\+<=>\^~\|`]+", _ENGLISH, r"[0-9][0-9][0-9]"),
    ),
    ("gpt2", "deepseek-coder"): PreTokenizer(
        (
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
            r"\p{N}",
        ),
    ),
}

SENTENCE_PIECE: frozenset[tuple[str, str]] = frozenset({("llama", "default"), ("llama", "")})
"""Pairs merged by score, with byte fallback. A missing `pre` is written as ''."""


def known_pairs() -> str:
    """The table's pairs, for an error message."""
    pairs = sorted({*BYTE_LEVEL, *SENTENCE_PIECE})
    return ", ".join(f"{model}/{pre or '(none)'}" for model, pre in pairs)
