"""Exchanges as entries: what bodies say, what nobody counted, and whatever else strangers send."""

import gzip
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.instrument.recorder.entry import (
    BLOCK,
    Entry,
    Message,
    block_numbers,
    estimated_tokens,
    message_ends,
    rendered,
)
from sixfold.instrument.recorder.held import TAIL, Exchange, Held
from sixfold.instrument.recorder.observe import CUT, Observer
from sixfold.instrument.recorder.prompt import messages_of, sampling_of

SALT = bytes(16)
CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, "!"]},
    ],
    "temperature": 0.5, "top_p": 1, "max_tokens": 7, "seed": 3, "n": 2, "stop": ["a", "b"],
    "stream": True,
}  # fmt: skip


def exchange(request: object, response: bytes, kind: str = "application/json", **more) -> Exchange:
    made = Exchange("/v1/chat/completions", 1 << 20)
    made.started, made.ended, made.status = 100.0, 103.0, 200
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    made.request.add(body, 100.0)
    parts = response.split(b"|") if response.startswith(b"data: ") else [response]
    for i, part in enumerate(parts):
        made.response.add(part, 101.0 + i)
    made.content_type = kind.encode()
    for name, value in more.items():
        setattr(made, name, value)
    return made


def seen(*arguments, keep_text: bool = False, **more) -> Entry:
    return Observer(SALT, 90.0, keep_text).entry(exchange(*arguments, **more))


def sse(*events: object) -> bytes:
    """Events, a second apart."""
    written = [e if isinstance(e, bytes) else json.dumps(e).encode() for e in events]
    return b"|".join(b"data: " + event + b"\n\n" for event in written)


def delta(text: str, **more: object) -> dict:
    return {"choices": [{"index": 0, "delta": {"content": text}} | more]}


USAGE = {"prompt_tokens": 11, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}
END = (delta("", finish_reason="length"), {"choices": [], "usage": USAGE}, b"[DONE]")


def test_a_stream_with_usage():
    entry = seen(CHAT, sse(delta("a"), delta("b"), *END), "text/event-stream; charset=utf-8")
    assert (entry.at, entry.model, entry.endpoint) == (10.0, "m", "/v1/chat/completions")
    assert (entry.input_tokens, entry.output_tokens, entry.cached_tokens) == (11, 2, 8)
    assert not entry.input_estimated and not entry.output_estimated
    assert entry.outcome.ttft == 1.0 and entry.outcome.e2e == 3.0
    assert (entry.outcome.status, entry.outcome.finish_reason, entry.outcome.error) == (
        200, "length", "",
    )  # fmt: skip
    assert msgspec.to_builtins(entry.sampling) == {
        "temperature": 0.5, "top_p": 1.0, "max_tokens": 7, "seed": 3, "n": 2, "stop": 2,
        "stream": True,
    }  # fmt: skip
    assert entry.is_load


def test_lengths_that_nobody_counted_are_estimated_and_say_so():
    entry = seen(CHAT, sse(delta("a"), delta("b"), b"[DONE]"), "text/event-stream")
    text = "system\nBe brief.\nuser\nHi!\n"
    assert (entry.input_tokens, entry.input_estimated) == (-(-len(text) // 4), True)
    assert (entry.output_tokens, entry.output_estimated) == (2, True)
    whole = {"choices": [{"message": {"content": "x" * 40}, "finish_reason": "stop"}]}
    entry = seen(CHAT, json.dumps(whole).encode())
    assert (entry.output_tokens, entry.output_estimated) == (10, True)
    assert estimated_tokens("猫") == 1 and estimated_tokens("") == 0


def test_streams_that_end_badly():
    cut = seen(CHAT, sse(delta("a")), "text/event-stream")
    assert cut.outcome.error == CUT and cut.output_tokens == 1
    told = seen(CHAT, sse(delta("a"), {"error": {"message": "x"}}, b"[DONE]"), "text/event-stream")
    assert told.outcome.error == "an error in the stream"
    gone = seen(CHAT, sse(delta("a")), "text/event-stream", client_gone=True)
    assert gone.outcome.client_gone and gone.outcome.error == ""
    broken = seen(CHAT, sse(delta("a")), "text/event-stream", error="upstream_closed")
    assert broken.outcome.error == "upstream_closed" and broken.is_load


def test_errors_are_no_load():
    entry = seen(CHAT, b'{"error": {"message": "no"}}', status=429)
    assert entry.outcome.status == 429 and entry.output_tokens is None and not entry.is_load


def test_the_other_forms_of_answers():
    usage = {"input_tokens": 4, "output_tokens": 9, "input_tokens_details": {"cached_tokens": 2}}
    body = {"instructions": "Be brief.", "input": "Hi"}
    entry = seen(body, json.dumps({"status": "completed", "usage": usage}).encode())
    assert (entry.input_tokens, entry.output_tokens, entry.cached_tokens) == (4, 9, 2)
    stream = sse(
        {"type": "response.created", "response": {"usage": None}},
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.completed", "response": {"usage": usage}},
    )
    entry = seen(body, stream, "text/event-stream")
    assert (entry.input_tokens, entry.output_tokens, entry.outcome.error) == (4, 9, "")
    assert entry.outcome.ttft == 2.0
    start = {"input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1}
    stream = sse(
        {"type": "message_start", "message": {"usage": start}},
        {"type": "content_block_delta", "delta": {"text": "a"}},
        {"type": "message_delta", "usage": {"output_tokens": 6}},
        {"type": "message_stop"},
    )
    entry = seen({"system": "s", "messages": []}, stream, "text/event-stream")
    assert (entry.input_tokens, entry.cached_tokens, entry.output_tokens) == (8, 5, 6)
    assert entry.outcome.error == "" and entry.outcome.ttft == 2.0


def test_what_is_packed_is_unpacked_part_by_part():
    packed = gzip.compress(sse(delta("a"), *END).replace(b"|", b""))
    entry = seen(CHAT, packed, "text/event-stream", response_coding=b"gzip")
    assert entry.output_tokens == 2 and entry.response_bytes == len(packed)
    strange = seen(CHAT, b"\x0b\x02", "text/event-stream", response_coding=b"br")
    assert strange.output_tokens is None and strange.outcome.error == ""
    damaged = seen(CHAT, b"no gzip", response_coding=b"gzip")
    assert damaged.output_tokens is None
    request = exchange(gzip.compress(json.dumps(CHAT).encode()), b"{}", request_coding=b"gzip")
    assert Observer(SALT, 0.0).entry(request).model == "m"


def test_of_a_long_stream_the_head_and_the_end_are_looked_at():
    long = exchange(CHAT, b"")
    long.content_type, long.response = b"text/event-stream", Held(10_000)
    events = [delta("some text")] * 4000 + list(END)
    for i, part in enumerate(sse(*events).split(b"|")):
        long.response.add(part, 101.0 + i)
    assert long.response.size < 10_000 + 2 * TAIL < long.response.total
    entry = Observer(SALT, 0.0).entry(long)
    assert (entry.input_tokens, entry.output_tokens, entry.outcome.ttft) == (11, 2, 1.0)
    assert entry.outcome.finish_reason == "length" and entry.outcome.error == ""
    assert entry.response_bytes == long.response.total


def test_what_was_let_go_is_not_known():
    lost = exchange(CHAT, sse(delta("a"), *END), "text/event-stream")
    lost.forget()
    entry = Observer(SALT, 0.0).entry(lost)
    assert lost.size == 0 and entry.output_tokens is None and entry.outcome.error == ""
    assert entry.input_estimated and entry.request_bytes and not entry.hash_ids


def test_prompts_in_the_order_in_which_models_read_them():
    tools = [{"type": "function", "function": {"name": "f", "b": 1, "a": 2}}]
    body = {
        "messages": [
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
            {"role": "tool", "content": "R"},
            {"type": "reasoning", "x": 1},
        ],
        "tools": tools,
        "system": [{"type": "text", "text": "S"}],
    }
    found = messages_of(body)
    assert [m.role for m in found] == ["tools", "system", "user", "assistant", "tool", "reasoning"]
    assert found[0].text.endswith('"b":1,"a":2}}]') and found[3].text == '[{"id":"c"}]'
    image = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:" * 999}}],
    }
    assert len(messages_of({"messages": [image]})[0].text) < 40
    assert messages_of({"prompt": ["a", "b"]}) == (Message("", "a"), Message("", "b"))
    assert messages_of({"prompt": [1, 2]}) == (Message("ids", "1 2"),)
    assert messages_of({"prompt": 7}) == () and messages_of({}) == ()
    assert seen({"prompt": [1, 2]}, b"{}", keep_text=True).prompt == ()


def test_sampling_of_wrong_types_is_none():
    strange = {
        "temperature": "hot",
        "top_p": 10**400,
        "n": True,
        "max_tokens": 1.5,
        "seed": 1 << 70,
        "stop": 3,
    }
    assert sampling_of(strange) == sampling_of({})
    assert sampling_of({"max_completion_tokens": 5, "stop": "x"}).stop == 1


MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user"]), st.text(max_size=300)), max_size=5
)


@given(MESSAGES, MESSAGES)
def test_more_messages_only_add(first, more):
    assert rendered([*first, *more]).startswith(rendered(first))
    ends = message_ends([*first, *more], "m", SALT)
    assert ends[: len(first)] == message_ends(first, "m", SALT)


TEXTS = st.text(st.sampled_from("ab\n 猫"), max_size=5 * BLOCK)


@given(TEXTS, TEXTS, TEXTS)
def test_equal_beginnings_have_equal_numbers_and_others_none(common, one, two):
    a, b = common + one, common + two
    first, second = block_numbers(a, "m", SALT), block_numbers(b, "m", SALT)
    assert len(first) == len(a) // BLOCK
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    blocks = same // BLOCK
    assert first[:blocks] == second[:blocks]
    assert not set(first[blocks:]) & set(second[blocks:])
    assert not set(first) & set(block_numbers(a, "m", b"1" * 16))
    assert not set(first) & set(block_numbers(a, "other", SALT))


def test_a_conversation_keeps_its_key():
    observer = Observer(SALT, 0.0)
    first = {"role": "user", "content": "one"}
    answer = {"role": "assistant", "content": "1"}
    system = {"role": "system", "content": "s"}

    def key(*messages: dict, model: str = "m") -> str:
        return observer.entry(exchange({"model": model, "messages": messages}, b"{}")).session

    begun = key(system, first)
    assert begun and key(system, first, answer, {"role": "user", "content": "two"}) == begun
    assert key(system, first, answer, {"role": "user", "content": "another way"}) == begun
    others = {key(system, {"role": "user", "content": str(n)}) for n in range(3)}
    assert len(others) == 3 and begun not in others
    assert key(system, first, answer, first, model="other") not in {begun, *others}
    assert observer.entry(exchange({"prompt": "one"}, b"{}")).session == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "prompt", "content", "role", "choices", "usage", "text", "message",
                 "prompt_tokens", "finish_reason", "tools", "model", "input", "system", "response"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


@given(
    BODIES,
    st.lists(BODIES | BODIES.map(lambda b: b"data: " + b + b"\n\n"), max_size=4),
    st.sampled_from(["application/json", "text/event-stream", ""]),
    st.sampled_from([b"", b"gzip", b"br"]),
    st.sampled_from([0, 200, 404]),
)
def test_whatever_passes_makes_an_entry_that_can_be_read_again(
    request, parts, kind, coding, status
):
    made = exchange(request, b"|".join(parts), kind, response_coding=coding, status=status)
    entry = Observer(SALT, 0.0, keep_text=True).entry(made)
    again = msgspec.json.decode(msgspec.json.encode(entry), type=Entry)
    assert again == entry


@pytest.mark.parametrize("prompt", ["\\ud800", "\\udfff x", "a\\u0000b"])
def test_odd_characters_are_no_trouble(prompt):
    body = b'{"prompt": "%b"}' % (prompt.encode() * 200)
    entry = Observer(SALT, 0.0, keep_text=True).entry(exchange(body, b"{}"))
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry
