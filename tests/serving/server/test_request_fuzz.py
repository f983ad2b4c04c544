"""Generated requests over every field, while canary streams run: nothing may break anything.

SIXFOLD_REQUEST_FUZZ_CASES sets the count (full: 5000). SIXFOLD_FUZZ_MODEL names a model on which
the same runs against the real engine, too.
"""

import http.client
import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_harness import PATIENCE, Server

from sixfold.serving.server.protocol import (
    ABSENT_FIELDS,
    IGNORED_FIELDS,
    ChatFields,
    CommonFields,
    CompletionFields,
)

CASES = int(os.environ.get("SIXFOLD_REQUEST_FUZZ_CASES", "400"))
MODELS = ["fake", *filter(None, [os.environ.get("SIXFOLD_FUZZ_MODEL")])]
CANARIES = ("the quick brown fox", "jumps over", "the lazy dog", "and is gone")
CANARY_TOKENS = 24

_NAN, _INF = float("nan"), float("inf")
_NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 5, 16, 63, 64, 65, 127, 128, 129, 1024, 1025, 2**31 - 1, 2**31, -(2**31)),
    *(2**32, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1e-9, 1e-320, -0.5, 1.5, 100.0, 1e308, -1e308, _NAN, _INF, -_INF),
]
_TEXTS = [
    *(
        "",
        " ",
        "x",
        "hello",
        "é漢🙂",
        "\x00",
        "a\x00b",
        "\ud800",
        "\udfff\ud800",
        "\u202e",
        "\ufeff",
    ),
    *("\\", '"', "\n" * 100, "<|im_end|>", "<|endoftext|>", "{{ 7*7 }}", "%s%n", "../../etc"),
    *("x" * 1025, "é" * 5000, "a b " * 20_000, "\r\n\r\nGET / HTTP/1.1", "none", "text", "-1"),
]
_scalars = (
    st.none() | st.booleans() | st.sampled_from(_NUMBERS) | st.sampled_from(_TEXTS) | st.text()
)
_anything = st.recursive(
    _scalars | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
) | st.sampled_from([[], {}, [[]], [{}], [None], {"": None}, [1] * 2000, ["x"] * 1025])

_token_ids = st.lists(st.sampled_from([0, 1, 97, 98, 255, 256, 10**6, -1]), max_size=6)
_small = st.integers(1, 6)
_content = (
    st.sampled_from(_TEXTS)
    | st.lists(
        st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", ""])})
        | st.fixed_dictionaries({"type": st.just("text"), "text": st.sampled_from(_TEXTS)}),
        max_size=3,
    )
    | _anything
)
_roles = st.sampled_from(["system", "user", "assistant", "developer", "tool", "robot", ""])
_message = st.fixed_dictionaries(
    {"role": _roles, "content": _content}, optional={"name": _anything, "tool_calls": _anything}
)

LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.sampled_from(_TEXTS)
    | st.text()
    | _token_ids
    | st.lists(_token_ids, max_size=4)
    | st.lists(st.sampled_from(_TEXTS), max_size=4),
    "messages": st.lists(_message | _anything, max_size=4),
    "max_tokens": _small,
    "max_completion_tokens": _small,
    "min_tokens": _small,
    "n": st.integers(1, 4),
    "best_of": st.integers(1, 2),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0.01, 1),
    "top_k": st.integers(-1, 50),
    "min_p": st.floats(0, 1),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "repetition_penalty": st.floats(0.1, 2),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "stop": st.sampled_from(_TEXTS) | st.lists(st.sampled_from(_TEXTS), max_size=40),
    "stop_token_ids": _token_ids,
    "logit_bias": st.dictionaries(
        st.sampled_from(["0", "97", "256", "-1", "x", "", "1e3", "٣", "9" * 30]),
        st.floats(-120, 120) | st.sampled_from(_NUMBERS),
        max_size=3,
    ),
    "logprobs": st.integers(0, 5) | st.booleans(),
    "top_logprobs": st.integers(0, 5),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "priority": st.integers(-3, 3),
    "cache_salt": st.sampled_from(_TEXTS),
    "timeout": st.sampled_from([1e-6, 0.001, 30, 86400, 86401]),
    "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}, {}]),
    "model": st.sampled_from([None, "fake", "other", "", "/etc/passwd"]),
    "chat_template_kwargs": st.dictionaries(
        st.sampled_from(["enable_thinking", "tokenize", "messages", "self"]), st.booleans()
    ),
}
_BOOLEANS = ("stream", "echo", "ignore_eos", "skip_special_tokens", "add_special_tokens")
_BOOLEANS += ("include_stop_str_in_output", "add_generation_prompt")
LIKELY |= dict.fromkeys(_BOOLEANS, st.booleans())

FIELDS = sorted(
    {
        *CommonFields.__struct_fields__,
        *CompletionFields.__struct_fields__,
        *ChatFields.__struct_fields__,
        *IGNORED_FIELDS,
        *ABSENT_FIELDS,
    }
)
_BASES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hi", "max_tokens": 3},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [97, 98]},
}
_OWN = {"/tokenize": ["prompt", "messages", "return_token_strs"], "/detokenize": ["tokens"]}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body: mostly JSON with a few odd fields, now and then bytes."""
    path = draw(st.sampled_from(["/v1/completions", "/v1/chat/completions"] * 3 + sorted(_BASES)))
    if draw(st.integers(0, 29)) == 0:
        return path, draw(st.binary(max_size=200) | st.sampled_from([b"null", b"[" * 50_000, b""]))
    body = dict(_BASES[path])
    other = "prompt" if "chat" in path else "messages"
    likely = [f for f in _OWN.get(path, FIELDS) if f != other] * 8
    for name in draw(st.lists(st.sampled_from([*likely, other, "unheard_of", ""]), max_size=5)):
        valid = LIKELY.get(name, _anything)
        body[name] = draw(valid if draw(st.integers(0, 2)) else _anything)
    text = json.dumps(body)
    if draw(st.integers(0, 29)) == 0:
        place = draw(st.integers(0, len(text)))
        return path, text[:place].encode() + draw(st.binary(max_size=4)) + text[place:].encode()
    return path, text.encode()


class Canaries:
    """Streams that run over and over; each must give the same text every time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self.baseline = {prompt: self._run(prompt) for prompt in CANARIES}
        self.rounds = dict.fromkeys(CANARIES, 0)
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._loop, args=(p,)) for p in CANARIES]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish its stream."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE * 2)

    def _loop(self, prompt: str) -> None:
        while not self._stop.is_set() and not self.failures:
            try:
                text = self._run(prompt)
            except Exception as error:
                text = repr(error)
            if text != self.baseline[prompt]:
                self.failures.append(f"{prompt!r}: {text!r} is not {self.baseline[prompt]!r}")
            self.rounds[prompt] += 1

    def _run(self, prompt: str) -> str:
        body = {"prompt": prompt, "max_tokens": CANARY_TOKENS, "temperature": 0, "stream": True}
        status, answer = send(self._server, "/v1/completions", json.dumps(body).encode())
        assert status == 200, answer
        assert answer.endswith(b"data: [DONE]\n\n"), answer
        chunks = [json.loads(line[6:]) for line in answer.split(b"\n\n")[:-2]]
        return "".join(chunk["choices"][0]["text"] for chunk in chunks)


def send(server: Server, path: str, body: bytes) -> tuple[int, bytes]:
    """POST over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=4 * PATIENCE)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check(path: str, body: bytes, status: int, answer: bytes) -> None:
    """A proper answer, or a proper error that is the caller's own."""
    if status == 200 and answer.startswith(b"data: "):
        assert answer.endswith(b"data: [DONE]\n\n")
        for line in answer.split(b"\n\n")[:-2]:
            chunk = json.loads(line.removeprefix(b"data: "))
            assert "choices" in chunk or chunk["error"]["code"] == "deadline_exceeded", chunk
        return
    content = json.loads(answer)
    if status == 200:
        assert not {"choices", "tokens", "prompt"}.isdisjoint(content)
        return
    error = content["error"]
    assert isinstance(error["message"], str)
    if status == 504:
        assert b'"timeout"' in body, "only a request with a deadline may miss it"
    elif status == 503:
        assert error["code"] == "overloaded"
    else:
        assert status in (400, 404, 413), (status, content)


@pytest.fixture(scope="module", params=MODELS)
def target(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The fake engine, and the real one where a model is named."""
    running = Server({"model": request.param, "max_model_len": 256})
    assert running.port, running.stderr()
    yield running
    assert running.stop() == 0
    running.close()


def test_no_request_breaks_anything(target: Server) -> None:
    engines = target.engine_pids()
    canaries = Canaries(target)
    latest: deque[str] = deque(maxlen=40)

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=CASES <= 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    def fuzz(case: tuple[str, bytes]) -> None:
        if canaries.failures:
            return  # nothing to shrink: the cause is among the latest requests
        path, body = case
        latest.append(f"{path} {body[:500]!r}")
        status, answer = send(target, path, body)
        check(path, body, status, answer)

    try:
        fuzz()
    finally:
        canaries.stop()
    assert canaries.failures == [], "\n".join(["after these requests:", *latest])
    assert all(canaries.rounds.values())
    assert target.engine_pids() == engines, "the engine was restarted"
    assert "Traceback" not in target.stderr(), target.stderr()[-3000:]
    load = target.get("/load").json()
    assert load["server_load"] == load["num_requests_running"] == load["num_requests_waiting"] == 0
