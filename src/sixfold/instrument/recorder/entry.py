"""One line of a trace: what is kept of one request, and the header that says how to read it.

A prompt stands in an entry as numbers of its blocks; its text only where that was asked for. A
block is BLOCK characters of the rendered prompt, about 32 tokens of English. Characters, because
white space counts for a prefix cache and not every language has blanks between words. A block's
number is a hash, keyed by the trace's salt, of the model's name and all text up to the block's
end: prompts that begin alike have equal leading numbers, and a number stands for one beginning.
What is left after the last whole block has no number.
Not here: what a body says (prompt, observe), files (trace_file).
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated

import msgspec

from sixfold.instrument.workloads.content import MAX_LENGTH

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH)]
VERSION = 1
"""Of the trace's format."""
BLOCK = 128
"""Characters of a block."""
BYTES_PER_TOKEN = 4.0
"""Of UTF-8, where nobody counted tokens."""
SALT_BYTES = 16
_NUMBER_BYTES = 6
"""A number is an integer below 2^48: exact in every reader of JSON."""


class Message(msgspec.Struct, frozen=True):
    """A part of a prompt. The role is empty for a prompt that is plain text."""

    role: str
    text: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request asks for; None where it says nothing."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    n: int | None = None
    stop: int = 0
    """Stop strings."""
    stream: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a request ended. Times in seconds from the moment when its head was read."""

    status: int = 0
    """Of HTTP; 0: there was no answer."""
    finish_reason: str = ""
    ttft: float | None = None
    """To the first text of a stream."""
    e2e: float | None = None
    error: str = ""
    """What went wrong, in a word or two; empty for nothing."""
    client_gone: bool = False
    """The client left before the end."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. None, or an empty value, is what is not known."""

    at: Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
    """Seconds from the start that the header names."""
    endpoint: str
    """The path, without its query."""
    model: str = ""
    input_tokens: Count | None = None
    input_estimated: bool = False
    """The server did not count them: by the prompt's bytes."""
    output_tokens: Count | None = None
    output_estimated: bool = False
    """The server did not count them: pieces of the stream, or by the answer's bytes."""
    cached_tokens: int | None = None
    """Of the input, from the server's prefix cache, where it says so."""
    chars: int = 0
    """Of the rendered prompt."""
    hash_ids: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    """Numbers of the prompt's whole blocks."""
    session: str = ""
    """Equal for requests of which each takes up the messages of the one before."""
    sampling: Sampling = Sampling()
    outcome: Outcome = Outcome()
    request_bytes: int | None = None
    """Of the body."""
    response_bytes: int | None = None
    prompt: tuple[Message, ...] = ()
    """Only where text is kept."""

    @property
    def is_load(self) -> bool:
        """A workload can have it: it was answered, and the lengths of both sides are known."""
        return self.outcome.status == 200 and bool(self.input_tokens and self.output_tokens)


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of a trace, and of each later recording that was appended to it."""

    sixfold_trace: int
    """The format's version. First, since readers know a trace by it."""
    start: str
    """UTC; what `at` counts from."""
    salt: str = ""
    """Hexadecimal: the key of the hashes. Whoever has it can test a guess of a prompt's start."""
    block: Annotated[int, msgspec.Meta(ge=1)] = BLOCK
    source: str = "proxy"
    keep_text: bool = False
    missing: tuple[str, ...] = ()
    """What an access log did not say."""


def rendered(messages: Iterable[Message]) -> str:
    """A prompt as one text: more messages only add to its end."""
    return "".join([f"{m.role}\n{m.text}\n" if m.role else m.text for m in messages])


def block_numbers(text: str, model: str, salt: bytes) -> tuple[int, ...]:
    """A number for each whole block of a rendered prompt."""
    before = blake2b(_bytes(model), key=salt, digest_size=16).digest()
    numbers = []
    for start in range(0, len(text) - BLOCK + 1, BLOCK):
        piece = before + _bytes(text[start : start + BLOCK])
        before = blake2b(piece, key=salt, digest_size=16).digest()
        numbers.append(int.from_bytes(before[:_NUMBER_BYTES], "big"))
    return tuple(numbers)


def message_ends(messages: Iterable[Message], model: str, salt: bytes) -> list[str]:
    """A short hash of the model and all text up to the end of each message."""
    state = blake2b(_bytes(model) + b"\0", key=salt, digest_size=8)
    ends = []
    for message in messages:
        state.update(_bytes(rendered([message])))
        ends.append(state.hexdigest())
    return ends


def estimated_tokens(text: str) -> int:
    """About as many tokens as the text has; 0 only for no text."""
    return -(-len(_bytes(text)) // int(BYTES_PER_TOKEN))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
