"""The entry that an exchange makes once it is over: its prompt, what it asked for, how it ended.

Nothing here runs while bytes are on their way: JSON, events and hashes wait for the exchange's
end, on whatever thread calls `Observer.entry`. Bodies of strangers are read: whatever they hold,
there is an entry. Not here: bytes and their times (held), the prompt's order (prompt).
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

import msgspec

from sixfold.instrument.loadgen.events import read_answer, sse
from sixfold.instrument.recorder.entry import (
    BYTES_PER_TOKEN,
    Entry,
    Message,
    Outcome,
    block_numbers,
    estimated_tokens,
    message_ends,
    rendered,
)
from sixfold.instrument.recorder.held import Exchange, Held
from sixfold.instrument.recorder.prompt import IDS, messages_of, sampling_of
from sixfold.instrument.workloads.content import MAX_LENGTH

MAX_SESSIONS = 1 << 16
"""Conversations that are remembered; the least recent are forgotten first."""
MAX_WORD = 200
"""Characters of a name that a stranger gives."""
CUT = "the stream was cut"
_EDGE = 8
"""Events at a stream's start and end in which usage is sought where no choice tells it."""


class _Said(msgspec.Struct):
    """What an answer says, whatever its form."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    estimated: bool = False
    """Of `output`."""
    finish: str = ""
    first: float | None = None
    """When the first text of a stream arrived."""
    error: str = ""


class Observer:
    """Makes entries, one at a time."""

    def __init__(self, salt: bytes, start: float, keep_text: bool = False) -> None:
        """`start`: what `at` counts from, on the clock of time.monotonic."""
        self._salt = salt
        self._start = start
        self._keep_text = keep_text
        self._sessions: OrderedDict[str, str] = OrderedDict()

    def entry(self, exchange: Exchange) -> Entry:
        """What is known of an exchange that is over. No errors."""
        exchange.request.unpack(exchange.request_coding)
        exchange.response.unpack(exchange.response_coding)
        body = _object(exchange.request)
        messages, model = messages_of(body), str(body.get("model") or "")[:MAX_WORD]
        text, said = rendered(messages), _said(exchange)
        asked = estimated_tokens(text) if text else None
        if asked is None and not exchange.request.whole:
            asked = round(exchange.request.total / BYTES_PER_TOKEN)
        return Entry(
            at=exchange.started - self._start,
            endpoint=exchange.endpoint[:MAX_WORD],
            model=model,
            input_tokens=_count(asked if said.input is None else said.input),
            input_estimated=said.input is None and asked is not None,
            output_tokens=_count(said.output),
            output_estimated=said.estimated,
            cached_tokens=_count(said.cached),
            chars=len(text),
            hash_ids=block_numbers(text, model, self._salt),
            session=self._session(messages, model),
            sampling=sampling_of(body),
            outcome=_outcome(exchange, said),
            request_bytes=exchange.request.total,
            response_bytes=exchange.response.total,
            prompt=messages if self._keep_text and _is_text(messages) else (),
        )

    def _session(self, messages: Sequence[Message], model: str) -> str:
        """The conversation that these messages go on with, or a new one's key."""
        if not any(message.role for message in messages):
            return ""
        ends = message_ends(messages, model, self._salt)
        before = next((end for end in reversed(ends[:-1]) if end in self._sessions), "")
        if before:
            self._sessions.move_to_end(before)
        key = self._sessions[ends[-1]] = self._sessions.get(before, ends[-1])
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return key


def _is_text(messages: Iterable[Message]) -> bool:
    return all(message.role != IDS for message in messages)


def _outcome(exchange: Exchange, said: _Said) -> Outcome:
    ended = exchange.ended or exchange.started
    return Outcome(
        status=exchange.status,
        finish_reason=said.finish[:MAX_WORD],
        ttft=None if said.first is None else said.first - exchange.started,
        e2e=ended - exchange.started,
        error=exchange.error or said.error,
        client_gone=exchange.client_gone,
    )


def _said(exchange: Exchange) -> _Said:
    held = exchange.response
    if exchange.content_type.lower().startswith(b"text/event-stream"):
        return _stream(held, over=not (exchange.error or exchange.client_gone))
    return _body(_object(held), exchange.status)


def _stream(held: Held, over: bool) -> _Said:
    """A stream of events. `over`: nobody is known to have cut it."""
    tail = held.tail.partition(b"\n")[2]
    if not held.whole and not held.parts and not tail:
        return _Said()
    answer = read_answer(held.parts, held.times)
    timed = list(sse(held.parts, held.times))
    events = [data for _, data in timed]
    first = answer.token_times[0] if answer.token_times else _first_delta(timed)
    finish, ended, error = answer.finish_reason, answer.ended, answer.error
    pieces = answer.num_output_tokens
    if not held.whole:
        last = read_answer([tail], [0.0])
        finish, ended, error = last.finish_reason or finish, last.ended or not tail, last.error
        events += [data for _, data in sse([tail], [0.0])]
        pieces = round(pieces * held.total / max(1, sum(map(len, held.parts))))
    usage = _usage_of(chain(islice(events, _EDGE), deque(events, _EDGE)))
    wrong = "an error in the stream" if error else "" if _ended(ended, events) else CUT
    return _Said(
        input=usage.input,
        output=pieces if usage.output is None else usage.output,
        cached=usage.cached,
        estimated=usage.output is None,
        finish=finish,
        first=first,
        error=wrong if over else "",
    )


def _first_delta(events: Iterable[tuple[float, bytes]]) -> float | None:
    """When the first text of a stream in another form than OpenAI's choices came."""
    return next((at for at, data in events if b'delta"' in data), None)


def _ended(ended: bool, events: Sequence[bytes]) -> bool:
    """[DONE] or a finish reason, or the last event of the other forms."""
    return ended or any(
        sign in events[-1] for sign in (b'"message_stop"', b'"response.completed"') if events
    )


def _body(body: dict[str, Any], status: int) -> _Said:
    """An answer in one piece."""
    if status != 200 or not body:
        return _Said()
    said = _Said()
    _add_usage(said, body)
    choices = [choice for choice in _list(body.get("choices")) if isinstance(choice, dict)]
    reason = choices[0].get("finish_reason") if choices else body.get("stop_reason")
    said.finish = reason if isinstance(reason, str) else ""
    if said.output is None and choices:
        said.output = sum(estimated_tokens(_answer_text(choice)) for choice in choices)
        said.estimated = True
    return said


def _answer_text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


def _usage_of(events: Iterable[bytes]) -> _Said:
    said = _Said()
    for data in events:
        if b'"usage"' in data:
            _add_usage(said, _decoded(data))
    return said


def _add_usage(said: _Said, value: dict[str, Any]) -> None:
    """Take over the counts that an object holds, itself or in its `response` or `message`."""
    for holder in (value, value.get("message"), value.get("response")):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if not isinstance(usage, dict):
            continue
        asked = _first_int(usage, "prompt_tokens", "input_tokens")
        if asked is not None and "cache_read_input_tokens" in usage:
            said.cached = _first_int(usage, "cache_read_input_tokens") or 0
            asked += said.cached + (_first_int(usage, "cache_creation_input_tokens") or 0)
        answered = _first_int(usage, "completion_tokens", "output_tokens")
        for name in ("prompt_tokens_details", "input_tokens_details"):
            if isinstance(usage.get(name), dict):
                said.cached = _first_int(usage[name], "cached_tokens")
        said.input = said.input if asked is None else asked
        said.output = said.output if answered is None else answered


def _first_int(table: dict[str, Any], *names: str) -> int | None:
    found = (table.get(name) for name in names)
    return next((value for value in found if type(value) is int and value >= 0), None)


def _count(value: int | None) -> int | None:
    return None if value is None else min(value, MAX_LENGTH)


def _object(held: Held) -> dict[str, Any]:
    """A whole body's JSON object; an empty one for anything else."""
    return _decoded(b"".join(held.parts)) if held.whole else {}


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
