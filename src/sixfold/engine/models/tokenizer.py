"""`load_tokenizer`: text to ids and back, for Hugging Face directories and GGUF files.

Not here: how a format's vocabulary works (`tokenizer_hf`, `tokenizer_gguf`, `tokenizer_spm`),
template rendering (`chat_template`), token-by-token output (`engine/output.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sixfold.core.errors import ModelError, RequestError
from sixfold.engine.models import chat_template
from sixfold.engine.models.tokenizer_gguf import GgufBackend
from sixfold.engine.models.tokenizer_hf import HfBackend
from sixfold.engine.models.tokenizer_text import Backend, check_text


class Tokenizer:
    """A model's vocabulary. Safe to share between threads.

    Ids run to `vocab_size` - 1; a model's logits may have more rows (padding), which decode to
    nothing. A rendered chat template already holds its special tokens: encode it with
    `add_special_tokens=False`.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._bytes: list[bytes | None] = [None] * backend.vocab_size
        self.vocab_size = backend.vocab_size
        self.bos_token_id = backend.bos_token_id
        self.eos_token_ids = backend.eos_token_ids
        self.chat_template = backend.chat_template
        self.strip_leading_space = backend.strip_leading_space

    def encode(
        self, text: str, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Ids of `text`. `add_special_tokens` puts what the model wants around it (BOS ...).

        With `parse_special` texts of special tokens (<|im_end|> ...) become those tokens; without,
        they are plain text, which is what untrusted input wants. Raises RequestError for lone
        surrogates and for texts beyond `tokenizer_text.MAX_TEXT_CHARS`.
        """
        return self._backend.encode(check_text(text), add_special_tokens, parse_special)

    def min_tokens(self, text: str) -> int:
        """A lower bound on len(encode(text)), without encoding: refuses huge prompts at once."""
        longest = self._backend.longest_token
        return -(-len(text) // longest) if longest else 0

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of `ids`. Bytes that are no UTF-8 become U+FFFD; ids beyond the vocabulary nothing.

        Raises RequestError for what is not a list of non-negative integers.
        """
        parts: list[bytes] = []
        for token_id in ids:
            if not isinstance(token_id, int) or token_id < 0:
                raise RequestError(
                    f"{token_id!r} is not a token id", "ids are integers from 0", param="tokens"
                )
            if not (skip_special_tokens and self.is_special(token_id)):
                parts.append(self.token_bytes(token_id))
        data = b"".join(parts)
        if self.strip_leading_space and data.startswith(b" "):
            data = data[1:]
        return data.decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes a token adds to the output; b"" for ids beyond the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            return b""
        known = self._bytes[token_id]
        if known is None:
            known = self._bytes[token_id] = self._backend.token_bytes(token_id)
        return known

    def is_special(self, token_id: int) -> bool:
        """Whether `decode` skips the token by default."""
        return 0 <= token_id < self.vocab_size and self._backend.is_special(token_id)

    def apply_chat_template(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool = True, **kwargs: Any
    ) -> str:
        """Render `messages` with the model's own template, in a sandbox.

        `kwargs` are variables of the template, of a short allow-list (tools, documents,
        enable_thinking ...). Raises RequestError when the model has no template, for messages of
        a wrong shape, and for what the template itself refuses.
        """
        return chat_template.render(
            self.chat_template,
            messages,
            {"add_generation_prompt": bool(add_generation_prompt), **kwargs},
            self._backend.special_tokens,
        )


def tokenizer_from_metadata(metadata: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer from a GGUF file's key-value pairs, already read."""
    return Tokenizer(GgufBackend(metadata))


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a model directory (tokenizer.json) or of a .gguf file.

    Raises ModelError when it is missing, damaged, or of a kind that is not in the stated table
    (`tokenizer_pre`).
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(path.glob("*.gguf"))
        if (path / "tokenizer.json").exists() or len(inside) != 1:
            return Tokenizer(HfBackend(path))
        path = inside[0]
    if path.suffix.lower() != ".gguf":
        raise ModelError(
            f"{path.name} is neither a model directory nor a .gguf file",
            "give a directory with tokenizer.json or a GGUF file",
        )
    from sixfold.engine.models.gguf import read_gguf  # a directory needs no GGUF reader

    return tokenizer_from_metadata(read_gguf(path).metadata)
