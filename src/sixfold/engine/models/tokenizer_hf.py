"""Tokenizers from a Hugging Face directory: `tokenizer.json` through the `tokenizers` library.

Encoding is the library's, as it is, normalisers and post-processor included. Decoding is by
bytes, so that it can be done token by token: for texts it equals the library's; for byte
sequences that are no UTF-8 it gives one U+FFFD per broken part, where the library's ByteFallback
gives one per byte. Not here: `tokenizer.model` files and slow tokenizers' Python code.
"""

import threading
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from sixfold.core.errors import ModelError
from sixfold.engine.models.tokenizer_text import (
    MAX_TOKENS,
    Backend,
    as_model_error,
    as_request_error,
    byte_level_bytes,
    byte_token,
)

MAX_FILE_BYTES = 256 << 20

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class _AddedToken(msgspec.Struct):
    """One of tokenizer.json's added_tokens."""

    id: int
    content: str
    special: bool = False


class _TokenizerFile(msgspec.Struct):
    """What tokenizer.json says that the library does not tell."""

    added_tokens: list[_AddedToken] = []
    decoder: dict[str, Any] | None = None
    normalizer: dict[str, Any] | None = None


class HfBackend(Backend):
    """A tokenizer out of tokenizer.json and the small files beside it."""

    def __init__(self, directory: Path) -> None:
        """Raises ModelError for missing or damaged files and for decoders not known here."""
        data = _read(directory / "tokenizer.json")
        with as_model_error("tokenizer.json cannot be read"):
            facts = msgspec.json.decode(data, type=_TokenizerFile)
            self._tokenizer = tokenizers.Tokenizer.from_buffer(data)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        config = _read_json(directory / "tokenizer_config.json")
        generation = _read_json(directory / "generation_config.json")
        self._byte_level, self.strip_leading_space = _decoder_kind(facts.decoder)
        self._added = {t.id: t for t in facts.added_tokens}
        self._tokens = {i: t for t, i in vocabulary.items()}
        self._lock = threading.Lock()
        self.vocab_size = max(self._tokens, default=-1) + 1
        if not 0 < self.vocab_size <= MAX_TOKENS:
            raise ModelError(
                f"tokenizer.json has token ids up to {self.vocab_size - 1}",
                f"at most {MAX_TOKENS} tokens are read: the file is damaged, fetch it again",
            )
        self.longest_token = 0 if facts.normalizer else max(map(len, vocabulary), default=0)
        named = _read_json(directory / "special_tokens_map.json") | config
        self.special_tokens = {n: t for n in _NAMED if (t := _content(named.get(n))) is not None}
        self.bos_token_id = self._named_id("bos_token")
        model = _read_json(directory / "config.json")
        ends = generation.get("eos_token_id", model.get("eos_token_id"))
        listed = ends if isinstance(ends, list) else [ends]
        found = [self._named_id("eos_token"), *(e for e in listed if type(e) is int)]
        self.eos_token_ids = tuple(dict.fromkeys(e for e in found if e is not None))
        self.chat_template = _chat_template(directory, config)

    def _named_id(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        found: int | None = None if token is None else self._tokenizer.token_to_id(token)
        return found

    def encode(self, text: str, add_special_tokens: bool, parse_special: bool) -> list[int]:
        """The library's ids. Special added tokens are plain text unless `parse_special`."""
        with self._lock, as_request_error():
            self._tokenizer.encode_special_tokens = not parse_special
            found = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = found[0].ids
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """Added tokens: their text; ids that name no token: nothing."""
        added = self._added.get(token_id)
        if added is not None:
            return added.content.encode(errors="replace")
        token = self._tokens.get(token_id, "")
        if self._byte_level:
            return byte_level_bytes(token)
        value = byte_token(token)
        return token.replace("\u2581", " ").encode() if value is None else bytes([value])

    def is_special(self, token_id: int) -> bool:
        """What tokenizer.json calls special."""
        added = self._added.get(token_id)
        return added is not None and added.special


def _read(path: Path) -> bytes:
    """A file's bytes, of bounded size."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"{path.name} cannot be read: {error.strerror}",
            "a model directory needs tokenizer.json (a fast tokenizer); "
            "tokenizer.model alone is not enough",
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where the file is absent."""
    if not path.exists():
        return {}
    with as_model_error(f"{path.name} cannot be read"):
        value = msgspec.json.decode(_read(path))
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} is not a JSON object", "the file is damaged: fetch it again")
    return value


def _content(value: Any) -> str | None:
    """A token of tokenizer_config.json: a string, or an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _chat_template(directory: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja if there, else tokenizer_config.json's (its `default` if it has many)."""
    path = directory / "chat_template.jinja"
    if path.exists():
        with as_model_error("chat_template.jinja cannot be read"):
            return _read(path).decode()
    template = config.get("chat_template")
    if isinstance(template, list):
        listed = (t for t in template if isinstance(t, dict) and t.get("name") == "default")
        template = next(listed, {}).get("template")
    return template if isinstance(template, str) else None


def _decoder_kind(decoder: dict[str, Any] | None) -> tuple[bool, bool]:
    """(byte-level?, drop one leading space?) of tokenizer.json's decoder."""
    if decoder is None:
        raise ModelError("tokenizer.json has no decoder", "use a tokenizer of a language model")
    inner = decoder.get("decoders") if decoder.get("type") == "Sequence" else [decoder]
    steps = [step for step in inner if isinstance(step, dict)] if isinstance(inner, list) else []
    kinds = {str(step.get("type")) for step in steps}
    if "ByteLevel" in kinds and kinds <= {"ByteLevel", "Fuse"}:
        return True, False
    if "Metaspace" in kinds and kinds <= {"Metaspace", "ByteFallback", "Fuse"}:
        step = next(step for step in steps if step.get("type") == "Metaspace")
        return False, step.get("prepend_scheme", "always") != "never"
    if "Replace" in kinds and kinds <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return False, "Strip" in kinds
    raise ModelError(
        f"tokenizer.json decodes with {', '.join(sorted(kinds))}",
        "byte-level and SentencePiece-like decoders are known here",
    )
