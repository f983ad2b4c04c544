"""The events of a finished stream: which held text, what the server counted, how it ended.

Decoded once, after the stream's end, from bytes and the times of their arrival. Not here: reading
the bytes (framing.py), sending (client.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream of completion events said. Times are in seconds, on the client's clock."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    """The answer's ids, where the server tells them."""
    token_times: tuple[float, ...] = ()
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int | None = None
    finish_reason: str = ""
    ended: bool = False
    """[DONE] or a finish reason was seen."""
    error: str = ""


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: Any = None
    message: Any = None


_DECODER = msgspec.json.Decoder(_Event)


def sse(parts: Sequence[bytes], times: Sequence[float]) -> Iterator[tuple[float, bytes]]:
    """The data of each server-sent event, and when its last byte of data arrived."""
    place, edge, at = -1, 0, 0
    data: list[bytes] = []
    arrived = 0.0
    for line in b"".join(parts).splitlines(keepends=True):
        at += len(line)
        if line.startswith(b"data:"):
            content = line[5:].rstrip(b"\r\n")
            data.append(content.removeprefix(b" "))
            last = at - len(line) + 4 + len(content)
            while last >= edge:
                place += 1
                edge += len(parts[place])
            arrived = times[place]
        elif data and line in (b"\n", b"\r\n", b"\r"):
            yield arrived, b"\n".join(data)
            data.clear()
    if data:
        yield arrived, b"\n".join(data)


def read_answer(parts: Sequence[bytes], times: Sequence[float]) -> Answer:
    """Decode a stream. What is no event of a completion makes an Answer with an error."""
    reader = _Reader()
    for arrived, data in sse(parts, times):
        if data == b"[DONE]":
            reader.ended = True
            break
        try:
            reader.take(_DECODER.decode(data), arrived)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reader.error = reader.error or f"malformed event: {error}"
    return reader.answer()


def error_message(body: bytes) -> str:
    """What a server says went wrong: the message within JSON, else its first line."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _one_line(body.decode("utf-8", "replace"))
    if not isinstance(said, dict):
        return _one_line(str(said))
    return _describe(said.get("error") or said.get("message") or said.get("detail") or said)


def _describe(error: Any) -> str:
    message = error.get("message", error) if isinstance(error, dict) else error
    return _one_line(str(message))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


class _Reader:
    """Gathers a stream's events."""

    def __init__(self) -> None:
        self.ended = False
        self.error = ""
        self._texts: list[str] = []
        self._times: list[float] = []
        self._any_choice: list[float] = []
        self._token_ids: list[int] = []
        self._usage: _Usage | None = None
        self._finish_reason = ""

    def take(self, event: _Event, arrived: float) -> None:
        """One event."""
        if event.error or event.object == "error":
            self.error = self.error or _describe(event.error or event.message or "no reason given")
        self._usage = event.usage or self._usage
        for choice in event.choices or ():
            self._take_choice(choice, arrived)

    def _take_choice(self, choice: _Choice, arrived: float) -> None:
        piece, hidden = choice.text, None
        delta = choice.delta
        if delta is not None:
            piece, hidden = delta.content, delta.reasoning_content or delta.reasoning
        if piece:
            self._texts.append(piece)
        if piece or hidden:
            self._times.append(arrived)
        if choice.token_ids:
            self._token_ids += choice.token_ids
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
            self.ended = True
        self._any_choice = [arrived]

    def answer(self) -> Answer:
        """The sum of it."""
        usage = self._usage or _Usage()
        details = usage.prompt_tokens_details
        count = usage.completion_tokens
        count = len(self._times) if count is None else max(count, 0)
        return Answer(
            text="".join(self._texts),
            token_ids=tuple(self._token_ids),
            token_times=one_per_token(self._times or self._any_choice, count),
            num_prompt_tokens=usage.prompt_tokens,
            num_output_tokens=count,
            num_cached_tokens=details.cached_tokens if details else None,
            finish_reason=self._finish_reason,
            ended=self.ended,
            error=self.error,
        )


def one_per_token(times: Sequence[float], count: int) -> tuple[float, ...]:
    """`count` times from those of the chunks that held text.

    A chunk may hold several tokens, or a token no whole character: the rest are spread evenly
    over the chunks, so that the first and the last token keep their times. Fewer tokens than
    chunks: the first `count`.
    """
    chunks = len(times)
    if count <= chunks or not chunks:
        return tuple(times[:count])
    return tuple(times[i * chunks // count] for i in range(count))
