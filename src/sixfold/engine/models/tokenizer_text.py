"""Pieces that every tokenizer shares: byte maps, special-token splitting, checks.

Not here: any vocabulary, file format or merge rule. Nothing in this module keeps state.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sixfold.core.errors import ModelError, RequestError, SixfoldError

MAX_TEXT_CHARS = 4 << 20
"""Longest text that `encode` takes: a bound on work, far above any context length."""

MAX_TOKENS = 1 << 21
"""Largest vocabulary that is read: eight times the largest known."""

_LEAF_SIZE = 8


class Backend(ABC):
    """A vocabulary with its rules: what `Tokenizer` needs from a file format."""

    vocab_size: int
    """Ids are in [0, vocab_size). A model's logits may have more rows: padding."""
    longest_token: int
    """Most characters that one token can stand for; 0 where a normaliser makes that unknown."""
    strip_leading_space: bool
    """Whether decoding a whole text drops the one space that encoding put in front."""
    special_tokens: Mapping[str, str]
    """Names (bos_token, eos_token ...) to texts, as chat templates want them."""
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    chat_template: str | None

    @abstractmethod
    def encode(self, text: str, add_special_tokens: bool, parse_special: bool) -> list[int]:
        """Ids of `text`, which holds no lone surrogate."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token in [0, vocab_size) adds to the output."""

    @abstractmethod
    def is_special(self, token_id: int) -> bool:
        """Whether `decode` skips the token by default."""


def _byte_level_chars() -> dict[str, int]:
    """GPT-2's printable stand-ins: character to byte, a bijection on 0..255."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in set(shown)]
    chars = {chr(b): b for b in shown}
    return chars | {chr(256 + i): b for i, b in enumerate(hidden)}


_CHAR_TO_BYTE = _byte_level_chars()


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a byte-level token; of one with a character outside the map, its own UTF-8."""
    try:
        return bytes(map(_CHAR_TO_BYTE.__getitem__, token))
    except KeyError:
        return token.encode()


def byte_token(token: str) -> int | None:
    """The byte that a SentencePiece fallback token such as <0x0A> stands for, or None."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return int(token[3:5], 16)
        except ValueError:
            return None
    return None


def check_text(text: object) -> str:
    """Return `text` if it can be encoded. Raises RequestError for what is not clean text."""
    if not isinstance(text, str):
        raise RequestError(f"text must be a string, not {type(text).__name__}", param="prompt")
    if len(text) > MAX_TEXT_CHARS:
        raise RequestError(
            f"the text has {len(text)} characters, more than {MAX_TEXT_CHARS}",
            "send less text",
            param="prompt",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the text has half a surrogate pair (U+{ord(text[error.start]):04X}) "
            f"at character {error.start}",
            "send valid Unicode: pairs of \\uD8xx\\uDCxx escapes must not be cut in two",
            param="prompt",
        ) from None
    return text


@contextmanager
def as_model_error(what: str) -> Iterator[None]:
    """Turn whatever a parser throws at a damaged file into ModelError."""
    try:
        yield
    except SixfoldError:
        raise
    except BaseException as error:
        text = _reason(error)
        raise ModelError(f"{what}: {text}", "the file is damaged: fetch it again") from None


@contextmanager
def as_request_error() -> Iterator[None]:
    """Turn what the library throws at a text into RequestError.

    Its regular expressions give up after ten million steps back: patterns of a hostile file, or
    runs of millions of spaces.
    """
    try:
        yield
    except BaseException as error:
        text = _reason(error)
        raise RequestError(
            f"the text cannot be encoded: {text}", "send less text, or other text", param="prompt"
        ) from None


def _reason(error: BaseException) -> str:
    """First line of an error; raises it again if it is no error but a request to stop.

    The tokenizers library raises bare Exception, and PanicException, which is a BaseException.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class SpecialSplitter:
    """Cuts a text at special tokens by llama.cpp's rule: longest token first, then leftmost.

    A tree of prefixes tells in a few substring searches which tokens can occur at all, so that
    thousands of reserved tokens (Gemma has 6,000) cost nothing on texts without them.
    """

    def __init__(self, specials: Mapping[str, int]) -> None:
        self._ids = dict(specials)
        self._rank = {
            token: rank
            for rank, token in enumerate(sorted(specials, key=lambda t: (-len(t.encode()), t)))
        }
        self._tree = _prefix_tree(list(specials), 1)

    def split(self, text: str) -> list[str | int]:
        """Plain pieces (never empty) and special ids, in order."""
        found = sorted(_occurring(self._tree, text), key=self._rank.__getitem__)
        pieces: list[str | int] = [text] if text else []
        for token in found:
            token_id = self._ids[token]
            after: list[str | int] = []
            for piece in pieces:
                if isinstance(piece, int) or token not in piece:
                    after.append(piece)
                    continue
                for index, part in enumerate(piece.split(token)):
                    if index:
                        after.append(token_id)
                    if part:
                        after.append(part)
            pieces = after
        return pieces


_Tree = dict[str, "list[str] | _Tree"]


def _prefix_tree(tokens: list[str], depth: int) -> _Tree:
    """Group tokens by their first `depth` characters, and big groups again by more."""
    groups: dict[str, list[str]] = {}
    for token in tokens:
        groups.setdefault(token[:depth], []).append(token)
    return {
        prefix: group
        if len(group) <= _LEAF_SIZE or depth >= max(map(len, group))
        else _prefix_tree(group, depth + 2)
        for prefix, group in groups.items()
    }


def _occurring(tree: _Tree, text: str) -> list[str]:
    """The tokens of the tree that occur in `text`."""
    found: list[str] = []
    for prefix, below in tree.items():
        if prefix not in text:
            continue
        if isinstance(below, dict):
            found += _occurring(below, text)
        else:
            found += [token for token in below if token in text]
    return found
