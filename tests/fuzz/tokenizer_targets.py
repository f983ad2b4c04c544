"""Fuzz targets: damaged tokenizer files must give SixfoldError or a working tokenizer.

Each entry of TARGETS is (name, seeds, function of bytes). Functions return normally for any
input; what escapes is a finding.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from sixfold.core.errors import SixfoldError
from sixfold.engine.models.tokenizer import Tokenizer, load_tokenizer, tokenizer_from_metadata
from tokens_support import BYTE_CHARS, SPACE, bpe_metadata, spm_metadata

TEXT = "Hello, <|stop|> wörld! 123  \n\n 🙂 aaaaabc<s>"


def _use(tokenizer: Tokenizer) -> None:
    """Everything a loaded tokenizer is asked for."""
    for flags in ((False, False), (True, True)):
        ids = tokenizer.encode(TEXT, *flags)
        tokenizer.decode(ids)
        assert all(isinstance(i, int) and i >= 0 for i in ids)
    tokenizer.decode(range(min(tokenizer.vocab_size, 400)), skip_special_tokens=False)
    tokenizer.min_tokens(TEXT)


def gguf_metadata(data: bytes) -> None:
    """`data` is the metadata as JSON: what a GGUF reader may hand over."""
    try:
        metadata = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(metadata, dict):
        try:
            _use(tokenizer_from_metadata(metadata))
        except SixfoldError:
            return


def tokenizer_json(data: bytes) -> None:
    """`data` is tokenizer.json, whole."""
    with tempfile.TemporaryDirectory() as name:
        Path(name, "tokenizer.json").write_bytes(data)
        try:
            _use(load_tokenizer(Path(name)))
        except SixfoldError:
            return


def tokenizer_config(data: bytes) -> None:
    """`data` is each of the small JSON files beside a sound tokenizer.json."""
    with tempfile.TemporaryDirectory() as name:
        Path(name, "tokenizer.json").write_bytes(_tiny_tokenizer_json())
        for file in ("tokenizer_config", "special_tokens_map", "generation_config", "config"):
            Path(name, f"{file}.json").write_bytes(data)
        try:
            _use(load_tokenizer(Path(name)))
        except SixfoldError:
            return


def _tiny_tokenizer_json() -> bytes:
    vocabulary = {char: i for i, char in enumerate([*BYTE_CHARS, "he"])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|stop|>"])
    return tokenizer.to_str().encode()


def _llama_like_json() -> bytes:
    tokens = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), SPACE, *"helo", "he", SPACE + "he"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    bpe = models.BPE(vocabulary, [("h", "e"), (SPACE, "he")], unk_token="<unk>", byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(bpe)
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace])
    pattern = tokenizers.Regex(r"\p{N}{1,3}|\s+(?!\S)")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.Digits(True)]
    )
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer.to_str().encode()


_CONFIG = {
    "bos_token": {"content": "<|stop|>"},
    "eos_token": "<|stop|>",
    "eos_token_id": [1, 2],
    "chat_template": [{"name": "default", "template": "{{ messages }}"}],
}

TARGETS: list[tuple[str, list[bytes], Callable[[bytes], None]]] = [
    (
        "gguf_metadata",
        [json.dumps(m).encode() for m in (bpe_metadata(), spm_metadata(), bpe_metadata("qwen2"))],
        gguf_metadata,
    ),
    ("tokenizer_json", [_tiny_tokenizer_json(), _llama_like_json()], tokenizer_json),
    ("tokenizer_config", [json.dumps(_CONFIG).encode()], tokenizer_config),
]
