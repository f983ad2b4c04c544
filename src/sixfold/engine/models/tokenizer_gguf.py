"""Tokenizers from GGUF metadata: token-exact with llama.cpp for the pairs of `tokenizer_pre`.

Not here: reading the file (`gguf.read_gguf`) and Hugging Face directories.

Byte-level BPE runs in the `tokenizers` library with our own splitting at special tokens, since
llama.cpp's rule (longest first over the whole text) is not the library's (leftmost longest).
Token kinds are the file's `tokenizer.ggml.token_type`. As in llama.cpp, a few well-known texts
are cut out like control tokens whatever the file says; unlike there, those that the file calls
normal tokens neither end generation nor vanish from texts (Qwen's </s> is plain HTML).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers

from sixfold.core.errors import ModelError
from sixfold.engine.models.tokenizer_pre import (
    BYTE_LEVEL,
    SENTENCE_PIECE,
    PreTokenizer,
    known_pairs,
)
from sixfold.engine.models.tokenizer_spm import SPACE, SentencePiece
from sixfold.engine.models.tokenizer_text import (
    MAX_TOKENS,
    Backend,
    SpecialSplitter,
    as_model_error,
    as_request_error,
    byte_level_bytes,
    byte_token,
)

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Values of tokenizer.ggml.token_type."""

MAX_TOKEN_CHARS = 4096

END_OF_TURN = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> "
    "<|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> "
    "<end_of_utterance> <eos> <turn|> <|tool_response> <\uff5cend\u2581of\u2581sentence\uff5c> [e~["
)
"""Texts that end generation where they are special tokens (what llama.cpp learnt of models)."""

_FILL_IN = (
    "<|fim_prefix|> <fim-prefix> <fim_prefix> <\uff5cfim\u2581begin\uff5c> <PRE> "
    "\u2581<PRE> <|code_prefix|> <|prefix|>",
    "<|fim_suffix|> <fim-suffix> <fim_suffix> <\uff5cfim\u2581hole\uff5c> <SUF> "
    "\u2581<SUF> <|code_suffix|> <|suffix|>",
    "<|fim_middle|> <fim-middle> <fim_middle> <\uff5cfim\u2581end\uff5c> <MID> "
    "\u2581<MID> <|code_middle|> <|middle|>",
    "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    "<|file_sep|>",
)
"""Markers of fill-in-the-middle: the first of each line that is a token is a control token."""

_DEFAULT_IDS = {"bos": (1, 11), "eos": (2, 11), "unknown": (0, None), "padding": (None, None)}
"""Named ids and what llama.cpp takes where the file names none: (SentencePiece, byte-level)."""

_TEMPLATE_NAMES = {
    "bos": "bos_token",
    "eos": "eos_token",
    "unknown": "unk_token",
    "padding": "pad_token",
}


class Vocabulary:
    """The checked contents of tokenizer.ggml.*: texts, kinds, named ids."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Raises ModelError for lists of wrong types or lengths, and for tokens named twice."""
        self.metadata = metadata
        self.model = str(metadata.get("tokenizer.ggml.model", ""))
        self.pre = str(metadata.get("tokenizer.ggml.pre", ""))
        raw = self._list("tokens", None)
        if not 0 < len(raw) <= MAX_TOKENS or set(map(type, raw)) != {str}:
            raise _damaged(f"tokenizer.ggml.tokens must be 1 to {MAX_TOKENS} strings")
        self.tokens = raw if all(raw) else [t or f"[EMPTY_{i}]" for i, t in enumerate(raw)]
        self.ids = dict(zip(self.tokens, range(len(raw)), strict=True))
        if len(self.ids) != len(self.tokens):
            raise _damaged("tokenizer.ggml.tokens has the same token twice")
        self.longest_token = max(map(len, self.tokens))
        if self.longest_token > MAX_TOKEN_CHARS:
            raise _damaged(f"tokenizer.ggml.tokens has one of {self.longest_token} characters")
        self.kinds = self._list("token_type", len(raw)) or [1] * len(raw)
        self.chat_template = metadata.get("tokenizer.chat_template")
        if self.chat_template is not None and not isinstance(self.chat_template, str):
            raise _damaged("tokenizer.chat_template must be a string")

    def _list(self, key: str, length: int | None) -> list[Any]:
        """A list, [] where the file has none."""
        value = self.metadata.get(f"tokenizer.ggml.{key}", [])
        value = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise _damaged(f"tokenizer.ggml.{key} must be a list")
        if length is not None and len(value) not in (0, length):
            raise _damaged(f"tokenizer.ggml.{key} has {len(value)} entries for {length} tokens")
        return list(value)

    def scores(self) -> list[Any]:
        """One number per token; 0 where the file has none."""
        return self._list("scores", len(self.tokens)) or [0.0] * len(self.tokens)

    def merges(self) -> list[tuple[str, str]]:
        """Pairs in order of rank. The cut is the first space after the first character."""
        lines = self._list("merges", None)
        if set(map(type, lines)) != {str}:
            raise _damaged("tokenizer.ggml.merges must be a list of strings")
        pairs: list[tuple[str, str]] = [tuple(line.split(" ")) for line in lines]
        if set(map(len, pairs)) == {2}:
            return pairs
        cuts = [line.find(" ", 1) for line in lines]
        if min(cuts) < 1:
            raise _damaged("tokenizer.ggml.merges has an entry without a space")
        return [(line[:cut], line[cut + 1 :]) for line, cut in zip(lines, cuts, strict=True)]

    def named(self, name: str, default: int | None) -> int | None:
        """The id that the file names (bos, eos ...), else `default`, if it is a token."""
        value = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        for token_id in (value, default):
            if isinstance(token_id, int) and 0 <= token_id < len(self.tokens):
                return token_id
        return None

    def flag(self, name: str, default: bool) -> bool:
        """A boolean of the file (add_bos_token ...)."""
        return bool(self.metadata.get(f"tokenizer.ggml.{name}", default))


class PlainEncoder(ABC):
    """Encodes what lies between special tokens."""

    @abstractmethod
    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids of a plain piece; `after_special` also at the very beginning."""

    @abstractmethod
    def piece(self, token: str) -> bytes:
        """Bytes of a normal token."""


class ByteLevelEncoder(PlainEncoder):
    """Byte-level BPE on the `tokenizers` library."""

    def __init__(self, vocabulary: Vocabulary, rules: PreTokenizer) -> None:
        bpe = models.BPE(vocabulary.ids, vocabulary.merges(), ignore_merges=rules.ignore_merges)
        self._tokenizer = tokenizers.Tokenizer(bpe)
        splits = [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
            for pattern in rules.patterns
        ]
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_only])

    def encode(self, text: str, after_special: bool) -> list[int]:
        """The library's answer; whether a special token came before does not matter."""
        with as_request_error():
            encoded = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoded[0].ids
        return ids

    def piece(self, token: str) -> bytes:
        """Through GPT-2's byte map."""
        return byte_level_bytes(token)


class SentencePieceEncoder(PlainEncoder):
    """Merging by score, with the space that some models put before a text's first word."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.add_space_prefix = vocabulary.flag("add_space_prefix", True)
        self._pieces = SentencePiece(vocabulary.tokens, vocabulary.ids, vocabulary.scores())

    def encode(self, text: str, after_special: bool) -> list[int]:
        """Ids by `SentencePiece.encode`."""
        return self._pieces.encode(" " + text if after_special and self.add_space_prefix else text)

    def piece(self, token: str) -> bytes:
        """The text with its space markers turned back into spaces."""
        return token.replace(SPACE, " ").encode()


class GgufBackend(Backend):
    """A tokenizer out of a GGUF file's metadata."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Raises ModelError for an unknown (model, pre) pair and for damaged lists."""
        vocabulary = Vocabulary(metadata)
        rules, self._encoder = _encoder_for(vocabulary)
        spm = rules is None
        names = {n: vocabulary.named(n, d[0] if spm else d[1]) for n, d in _DEFAULT_IDS.items()}
        self.vocab_size = len(vocabulary.tokens)
        self.longest_token = vocabulary.longest_token
        self.strip_leading_space = spm and vocabulary.flag("add_space_prefix", True)
        self.chat_template = vocabulary.chat_template
        self.bos_token_id = names["bos"]
        self.special_tokens = {
            _TEMPLATE_NAMES[name]: vocabulary.tokens[token_id]
            for name, token_id in names.items()
            if token_id is not None
        }
        self._tokens = vocabulary.tokens
        self._kinds = vocabulary.kinds
        self.eos_token_ids = _end_ids(vocabulary, names["eos"])
        add_bos = spm if rules is None else rules.add_bos
        self._prefix = _flagged(vocabulary, "add_bos_token", add_bos, names["bos"])
        self._suffix = _flagged(vocabulary, "add_eos_token", False, names["eos"])
        special = (CONTROL, UNKNOWN, USER_DEFINED)
        kinds = _parse_kinds(vocabulary)
        marked = {self._tokens[i]: i for i, kind in enumerate(kinds) if kind in special}
        self._all = SpecialSplitter(marked)
        self._user = SpecialSplitter({t: i for t, i in marked.items() if kinds[i] == USER_DEFINED})

    def encode(self, text: str, add_special_tokens: bool, parse_special: bool) -> list[int]:
        """llama.cpp's tokenize(text, add_special, parse_special)."""
        ids = list(self._prefix) if add_special_tokens else []
        after_special = True
        for piece in (self._all if parse_special else self._user).split(text):
            if isinstance(piece, int):
                ids.append(piece)
            else:
                ids += self._encoder.encode(piece, after_special)
            after_special = isinstance(piece, int)
        return ids + list(self._suffix) if add_special_tokens else ids

    def token_bytes(self, token_id: int) -> bytes:
        """Special and user-defined tokens: their text. Unused ones: nothing."""
        token, kind = self._tokens[token_id], self._kinds[token_id]
        if kind in (CONTROL, UNKNOWN, USER_DEFINED):
            return token.encode()
        if kind == UNUSED:
            return b""
        value = byte_token(token) if kind == BYTE else None
        return self._encoder.piece(token) if value is None else bytes([value])

    def is_special(self, token_id: int) -> bool:
        """Control and unknown tokens; user-defined ones are shown."""
        return self._kinds[token_id] in (CONTROL, UNKNOWN)


def _encoder_for(vocabulary: Vocabulary) -> tuple[PreTokenizer | None, PlainEncoder]:
    pair = (vocabulary.model, vocabulary.pre)
    with as_model_error("the GGUF file's tokenizer cannot be built"):
        if pair in SENTENCE_PIECE:
            return None, SentencePieceEncoder(vocabulary)
        if pair in BYTE_LEVEL:
            return BYTE_LEVEL[pair], ByteLevelEncoder(vocabulary, BYTE_LEVEL[pair])
    raise ModelError(
        f"the GGUF file's tokenizer is {pair[0] or '(none)'}/{pair[1] or '(none)'} "
        f"(tokenizer.ggml.model/pre); known pairs: {known_pairs()}",
        "use the model's Hugging Face directory (tokenizer.json), "
        "or a GGUF file written by a current converter",
    )


def _parse_kinds(vocabulary: Vocabulary) -> list[int]:
    """The file's kinds, with well-known texts made control tokens: how texts are cut."""
    kinds, ids = list(vocabulary.kinds), vocabulary.ids
    firsts = (next((ids[t] for t in g.split() if t in ids), None) for g in _FILL_IN)
    for token_id in (*firsts, *(ids[t] for t in END_OF_TURN.split() if t in ids)):
        if token_id is not None:
            kinds[token_id] = CONTROL
    return kinds


def _end_ids(vocabulary: Vocabulary, eos: int | None) -> tuple[int, ...]:
    """What ends generation: named ids, and well-known texts that are special tokens.

    Converters often call end-of-turn markers user-defined; </s> of that kind is HTML (Gemma).
    """
    kinds = vocabulary.kinds
    named = (eos, vocabulary.named("eot", None), vocabulary.named("eom", None))
    found = ((t, vocabulary.ids[t]) for t in END_OF_TURN.split() if t in vocabulary.ids)
    turns = (
        i for t, i in found if kinds[i] == CONTROL or (kinds[i] == USER_DEFINED and t != "</s>")
    )
    return tuple(dict.fromkeys(i for i in (*named, *turns) if i is not None))


def _flagged(
    vocabulary: Vocabulary, flag: str, default: bool, token_id: int | None
) -> tuple[int, ...]:
    """The ids that a flag puts around every text."""
    if not vocabulary.flag(flag, default):
        return ()
    if token_id is None:
        raise _damaged(f"tokenizer.ggml.{flag} is set, but the file names no such token")
    return (token_id,)


def _damaged(message: str) -> ModelError:
    return ModelError(message, "the GGUF file is damaged, or from a faulty converter")
