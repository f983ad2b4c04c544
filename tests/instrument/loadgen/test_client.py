"""What the client makes of servers that behave, and of those that do not."""

import asyncio
import socket
from typing import Any

import pytest

from instrument.loadgen.mock_server import (
    CLOSE,
    DONE,
    HEAD,
    LAST,
    OPEN_HEAD,
    MockServer,
    Step,
    answer,
    chunk,
    event,
    finish,
    token,
)  # fmt: skip
from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.client import CUT, Client, Reply, Target


def ask(steps: list[Step], times: int = 1, **target: Any) -> tuple[list[Reply], MockServer]:
    """Send requests one after the other to a server that answers each with `steps`."""
    with MockServer(lambda body, number: steps) as server:
        return asyncio.run(_ask(Target(url=server.url, **target), times)), server


async def _ask(target: Target, times: int) -> list[Reply]:
    client = Client(target)
    try:
        return [await client.send({"prompt": "p", "max_tokens": 4}) for _ in range(times)]
    finally:
        client.close()


def failure(*steps: Step, **target: Any) -> str:
    """Why a request that is answered with `steps` fails."""
    (reply,), _ = ask(list(steps), **target)
    assert not reply.trace.ok and reply.error and "\n" not in reply.error
    return reply.error


def test_a_stream_is_read_to_its_end() -> None:
    steps = [HEAD, 0.03, chunk(token("Hel")), 0.03, chunk(token("lo") + finish(2, 9, 5)) + LAST]
    (reply,), server = ask(steps, model="m", api_key="k", extra={"temperature": 0})
    assert reply.error == "" and reply.trace.ok
    assert reply.answer.text == "Hello" and reply.answer.finish_reason == "length"
    assert (reply.answer.num_output_tokens, reply.answer.num_cached_tokens) == (2, 5)
    assert reply.trace.num_prompt_tokens == 9
    assert len(reply.trace.token_times) == 2
    seen = server.seen[0]
    assert seen.head.startswith("POST /v1/completions HTTP/1.1\r\n")
    assert "Authorization: Bearer k\r\n" in seen.head
    assert seen.body == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True},
        "temperature": 0, "prompt": "p", "max_tokens": 4,
    }  # fmt: skip


def test_chat_deltas_and_the_url_with_v1() -> None:
    deltas = [{"role": "assistant", "content": ""}, {"content": "a"}, {"reasoning_content": "b"}]
    events = [event(choices=[{"delta": delta}]) for delta in deltas]
    with MockServer(
        lambda body, number: [HEAD, *map(chunk, events), chunk(finish(2)) + LAST]
    ) as server:
        (reply,) = asyncio.run(_ask(Target(url=server.url + "/v1/", chat=True), 1))
    assert server.seen[0].head.startswith("POST /v1/chat/completions ")
    assert reply.answer.text == "a" and len(reply.trace.token_times) == 2


def test_connections_are_kept() -> None:
    replies, server = ask(answer("a"), times=3)
    assert [r.error for r in replies] == [""] * 3
    assert {seen.connection for seen in server.seen} == {0}


def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    # The second request's connection ends before any byte of an answer; the third try is new.
    scripts = [answer("a"), [CLOSE], answer("b")]
    with MockServer(lambda body, number: scripts[number]) as server:
        replies = asyncio.run(_ask(Target(url=server.url), 2))
    assert [r.answer.text for r in replies] == ["a", "b"]
    assert [seen.connection for seen in server.seen] == [0, 0, 1]


def test_a_new_connection_that_is_closed_is_no_case_for_another_try() -> None:
    assert "closed the connection without an answer" in failure(CLOSE)


def test_other_framings() -> None:
    body = token("a") + finish(1)
    counted = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for steps in ([counted], [OPEN_HEAD, body, CLOSE]):
        (reply,), _ = ask(list(steps))
        assert reply.error == "" and reply.answer.text == "a"


def test_text_that_looks_like_framing() -> None:
    tricky = "0\r\n\r\n\u2028data: [DONE]\r\n\r\n"
    (reply,), _ = ask(answer(tricky, "x"))
    assert reply.answer.text == tricky + "x"


@pytest.mark.parametrize("cut", [3, 5, 40, len(HEAD) - 2, len(HEAD) + 1, len(HEAD) + 3])
def test_segments_may_break_anywhere(cut: int) -> None:
    whole = HEAD + chunk(token("a")) + chunk(finish(1)) + LAST
    (reply,), _ = ask([whole[:cut], 0.02, whole[cut:-3], 0.02, whole[-3:]])
    assert reply.error == "" and reply.answer.text == "a"


def test_failures_say_why() -> None:
    said = b'{"error": {"message": "no such\\nmodel", "code": 404}}'
    refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)
    assert failure(refusal) == "the server answered 404: no such model"
    plain = b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\nbroken\n"
    assert failure(plain, CLOSE) == "the server answered 500: broken"
    broken = event(error={"message": "engine died"})
    assert failure(HEAD, chunk(token("a")), chunk(broken + DONE) + LAST) == "engine died"
    assert failure(HEAD, chunk(token("a")), CLOSE) == CUT
    assert failure(HEAD, chunk(token("a"))[:-4], CLOSE) == CUT
    assert failure(HEAD, chunk(token("a")), LAST) == CUT
    assert failure(OPEN_HEAD, token("a"), CLOSE) == CUT
    assert failure(HEAD, LAST) == CUT


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        HEAD + b"0x5\r\nhello\r\n",
        HEAD + b"5\r\nhello!\r\n",
        HEAD + b"1" * 9000,
        HEAD + chunk(b"data: {oops}\n\n" + DONE) + LAST,
        HEAD + chunk(b"data: \xff\n\n" + DONE) + LAST,
        HEAD + chunk(b'data: {"choices": 3}\n\n' + DONE) + LAST,
    ],
)  # fmt: skip
def test_malformed_responses_are_failed_outcomes(raw: bytes) -> None:
    assert failure(raw, CLOSE).startswith("malformed")


def test_json_instead_of_a_stream() -> None:
    body = b'{"choices": []}'
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert "no event stream" in failure(raw)


def test_timeouts() -> None:
    assert failure(HEAD, 5.0, timeout=0.2) == "timed out"
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        target = Target(url=f"http://127.0.0.1:{bound.getsockname()[1]}")
        (reply,) = asyncio.run(_ask(target, 1))
    assert "refused" in reply.error.lower() or "connect" in reply.error.lower()


def test_informational_responses_are_skipped() -> None:
    (reply,), _ = ask([b"HTTP/1.1 100 Continue\r\n\r\n", *answer("a")])
    assert reply.answer.text == "a"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://h", "http://", "http://h:x", "http://h/?a"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Target(url=url)
    assert caught.value.hint


def test_a_target_does_not_show_its_key() -> None:
    assert "secret" not in repr(Target(url="http://127.0.0.1:1", api_key="secret"))
