"""Workloads from prompt files: our own JSONL, and ShareGPT's JSON.

Text is taken as it is. Answers in a file are only used for their length: the server answers anew.
Not here: traces, which have lengths and times but no text (traces); reading lines (lines).
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.workloads.content import (
    MAX_LENGTH,
    TOKENS_PER_WORD,
    checked,
    stream,
)
from sixfold.instrument.workloads.holdout import LOOK, chosen
from sixfold.instrument.workloads.lines import Line, read_lines, read_whole

Limit = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Output = Annotated[int, msgspec.Meta(ge=1, le=MAX_LENGTH)]
Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


class JsonlConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts of a file with one JSON object per line.

    An object has one of "prompt" (text, or a list of token ids), "text" and "messages" (of roles
    system, user and assistant), and may have "max_tokens" or "output_tokens", and "class", for
    objectives such as chat/ttft:p95<300ms.
    """

    file: str
    """Path; may be a gzip file."""
    first: Limit = 0
    """Only so many, others for other seeds where the file has enough; 0: all of the seed's half."""
    output: Output = 128
    """Tokens of an answer where the line does not say."""
    shuffle: bool = False
    """Another order for each seed (after `first`)."""
    holdout: bool = True
    """Seeds below 2^30 send the even prompts; the odd ones warm up, and confirm what was tuned.
    A file of fewer than 16 prompts, or than twice `first`, is not parted. False: all, always."""


class ShareGptConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Conversations of a ShareGPT file; those without a question and an answer are left out."""

    file: str
    """Path; may be a gzip file."""
    first: Limit = 0
    """Only so many, others for other seeds where the file has enough; 0: all of the seed's half."""
    chats: bool = False
    """Whole conversations in place of the first question alone."""
    max_output: Output = 1024
    """Most tokens of an answer; else as long as the file's, at about 1.3 tokens a word."""
    shuffle: bool = False
    """Another order for each seed (after `first`)."""
    holdout: bool = True
    """Seeds below 2^30 send the even prompts; the odd ones warm up, and confirm what was tuned.
    A file of fewer than 16 prompts, or than twice `first`, is not parted. False: all, always."""


ClassName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]*\Z", max_length=64)]
"""As objectives name it."""


class _Message(msgspec.Struct):
    role: str
    content: str


class _Prompt(msgspec.Struct):
    prompt: str | tuple[Id, ...] | None = None
    text: str | None = None
    messages: list[_Message] | None = None
    max_tokens: Output | None = None
    output_tokens: Output | None = None
    slo_class: ClassName = msgspec.field(name="class", default="")


class _Said(msgspec.Struct):
    speaker: str = msgspec.field(name="from")
    value: str


class _Conversation(msgspec.Struct):
    conversations: list[_Said]


def jsonl(config: JsonlConfig, seed: int) -> list[Session]:
    """A session per line. Raises ConfigError with file and line for one that is not as above."""
    checked(config)
    decoder = msgspec.json.Decoder(_Prompt)
    lines = islice(read_lines(config.file), LOOK * config.first or None)
    sessions = []
    for line in lines:
        row = line.decode(decoder)
        session = _prompt(line, row, config.output)
        sessions.append(msgspec.structs.replace(session, slo_class=row.slo_class))
    return _ordered(sessions, config, seed)


def _prompt(line: Line, row: _Prompt, default: int) -> Session:
    given = [value for value in (row.prompt, row.text, row.messages) if value is not None]
    if len(given) != 1:
        raise line.error('needs exactly one of "prompt", "text" and "messages"')
    if not given[0]:
        raise line.error("the prompt is empty")
    output = row.max_tokens or row.output_tokens or default
    if row.messages is not None:
        return _messages(line, row.messages, output)
    if isinstance(row.prompt, tuple):
        return Session(turns=(Turn(token_ids=row.prompt, max_tokens=output),))
    return Session(turns=(Turn(text=row.prompt or row.text or "", max_tokens=output),))


def _messages(line: Line, messages: list[_Message], output: int) -> Session:
    """User messages become turns; what assistants said is left to the server."""
    unknown = {m.role for m in messages} - {"system", "developer", "user", "assistant"}
    if unknown:
        raise line.error(f"unknown role {min(unknown)[:40]!r}", "use system, user and assistant")
    system = "\n".join(m.content for m in messages if m.role in ("system", "developer"))
    asked = [m.content for m in messages if m.role == "user" and m.content]
    if not asked:
        raise line.error("no message of the user")
    turns = tuple(Turn(text=text, max_tokens=output) for text in asked)
    return Session(turns=turns, system=system)


def sharegpt(config: ShareGptConfig, seed: int) -> list[Session]:
    """A session per conversation. Raises ConfigError with file and line for a wrong one."""
    checked(config)
    found = (s for row in _conversations(config.file) if (s := _conversation(row, config)))
    sessions = list(islice(found, LOOK * config.first or None))
    return _ordered(sessions, config, seed)


def _conversations(path: str) -> Iterator[_Conversation]:
    """The array's items, decoded one by one to know the line of a wrong one."""
    data = read_whole(path)
    items = _items(path, data)
    for i, item in enumerate(items):
        try:
            yield msgspec.json.decode(item, type=_Conversation)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            place = 0
            for earlier in items[: i + 1]:
                place = data.find(bytes(earlier), place) + len(bytes(earlier))
            start = place - len(bytes(item))
            raise _at(path, data, start).error(f"conversation {i + 1}: {error}") from None


def _items(path: str, data: bytes) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        byte = re.search(r"\(byte (\d+)\)", str(error))
        offset = int(byte[1]) if byte else len(data) if "truncated" in str(error) else 0
        hint = "a ShareGPT file is a JSON array of {conversations: [{from, value}]}"
        raise _at(path, data, offset).error(str(error), hint) from None


def _at(path: str, data: bytes, offset: int) -> Line:
    return Line(path, data.count(b"\n", 0, offset) + 1, b"")


def _conversation(row: _Conversation, config: ShareGptConfig) -> Session | None:
    """Questions that have an answer; None if the first has not."""
    system = "\n".join(s.value for s in row.conversations if s.speaker == "system")
    said = [s for s in row.conversations if s.speaker != "system"]
    turns = []
    for question, answer in zip(said[::2], said[1::2], strict=False):
        human = question.speaker in ("human", "user") and question.value.strip()
        if not human or answer.speaker not in ("gpt", "assistant", "chatgpt", "bing", "bard"):
            break
        words = round(len(answer.value.split()) * TOKENS_PER_WORD)
        output = min(max(1, words), config.max_output)
        turns.append(Turn(text=question.value, max_tokens=output))
    if not turns:
        return None
    return Session(turns=tuple(turns if config.chats else turns[:1]), system=system)


def _ordered(
    sessions: list[Session], config: JsonlConfig | ShareGptConfig, seed: int
) -> list[Session]:
    if not sessions:
        raise ConfigError(f"{config.file}: no prompts in it", "see the formats in --help")
    sessions = chosen(sessions, seed, config.first, config.holdout)
    if config.shuffle:
        stream(seed, "order").shuffle(sessions)
    return sessions
