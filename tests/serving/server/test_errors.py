"""Bad requests get a 400 in OpenAI's shape that names the field, and change nothing."""

import msgspec
import pytest
from server_harness import Server, request_bytes

from sixfold.serving.server import responses

_MESSAGES = [{"role": "user", "content": "hi"}]
_HUGE = 10**30

COMPLETIONS: list[tuple[dict, str]] = [
    ({"unheard_of": 1}, "unheard_of"),
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [256]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [_HUGE]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": {}}, "prompt"),
    ({"prompt": "a\x00b"}, "prompt"),
    ({"prompt": "x" * 600}, "prompt"),
    ({"prompt": ["x"] * 1025}, "prompt"),
    ({"prompt": ["x"] * 600, "n": 2}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 600}, "max_tokens"),
    ({"max_tokens": _HUGE}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"best_of": 2}, "best_of"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": _HUGE}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"seed": 2**63}, "seed"),
    ({"stop": ["x"] * 33}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": "\x00"}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stop_token_ids": [256]}, "stop_token_ids"),
    ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
    ({"logprobs": 65}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"256": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": {"٣": 1}}, "logit_bias"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"cache_salt": "x" * 1025}, "cache_salt"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": -5}, "timeout"),
    ({"priority": 2**40}, "priority"),
    ({"priority": 1}, "priority"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"what": 1}}, "stream_options"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"suffix": "x"}, "suffix"),
    ({"tools": [{"type": "function"}]}, "tools"),
]

CHAT: list[tuple[dict, str]] = [
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "assistant", "content": "first"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x\x00"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "tool_calls"),
    ({"messages": [{"role": "user", "content": "x" * 600}]}, "prompt"),
    ({"tools": [{}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{}]}, "functions"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 65}, "top_logprobs"),
    ({"max_tokens": 4, "max_completion_tokens": 5}, "max_completion_tokens"),
    ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
    ({"chat_template": "{{ 7*7 }}"}, "chat_template"),
    ({"prompt": "x"}, "prompt"),
    ({"echo": True}, "echo"),
]

CASES = [("/v1/completions", {"prompt": "hi"} | c, p) for c, p in COMPLETIONS]
CASES += [("/v1/chat/completions", {"messages": _MESSAGES} | c, p) for c, p in CHAT]
CASES += [
    ("/tokenize", {}, "prompt"),
    ("/tokenize", {"prompt": "x", "messages": _MESSAGES}, "prompt"),
    ("/tokenize", {"prompt": "x", "what": 1}, "what"),
    ("/detokenize", {"tokens": [256]}, "tokens"),
    ("/detokenize", {"tokens": "x"}, "tokens"),
    ("/detokenize", {}, "tokens"),
]


def _error(content: bytes) -> responses.ErrorBody:
    error = msgspec.json.decode(content, type=responses.ErrorResponse).error
    for secret in ("/work", "/usr", "/tmp", "0x", "Traceback", ".py"):
        assert secret not in error.message
    return error


@pytest.mark.parametrize(("path", "body", "param"), CASES)
def test_a_bad_field_is_named(server: Server, path: str, body: dict, param: str) -> None:
    response = server.post(path, body)
    assert response.status_code == 400, response.text
    error = _error(response.content)
    assert error.type == "invalid_request_error"
    assert error.param == param
    assert "hint: " in error.message


def test_a_bad_stream_request_gets_a_status_and_no_stream(server: Server) -> None:
    response = server.complete("refuse-add", 2, stream=True)
    assert response.status_code == 400
    assert _error(response.content).param == "prompt"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"prompt": NaN}',
        b'{"prompt": "x", "temperature": Infinity}',
        b'{"prompt": "x", "temperature": 1e999}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "a\x00b"}',
        b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": "x", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"prompt": "x", "logit_bias": {"1": -Infinity}}',
        b'{"prompt": "x"} trailing',
    ],
)
def test_bytes_that_are_no_request(server: Server, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    with server.client() as client:
        response = client.post("/v1/completions", content=body, headers=headers)
    assert response.status_code == 400
    _error(response.content)


def test_wrong_model_route_method_and_type(server: Server) -> None:
    missing = server.complete("hi", 2, model="gpt-9")
    assert missing.status_code == 404
    assert "gpt-9" in _error(missing.content).message
    assert server.get("/nowhere").status_code == 404
    assert server.get("/v1/completions").status_code == 405
    assert server.get("/v1/completions/").status_code == 404
    with server.client() as client:
        wrong = client.post("/v1/completions", content=b"{}", headers={"content-type": "text/a"})
        assert wrong.status_code == 415
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert client.request(method, "/v1/models").status_code == 405


def test_timeout_header(server: Server) -> None:
    for value in ("soon", "nan", "-1", "inf", "0", "9" * 40):
        headers = {"x-request-timeout": value}
        body = {"prompt": "hi", "max_tokens": 1}
        assert server.post("/v1/completions", body, headers=headers).status_code == 400
    assert server.post("/v1/completions", body, headers={"x-request-timeout": "20"}).is_success


def test_other_sites_pages_are_refused(server: Server) -> None:
    assert server.get("/v1/models", headers={"origin": "https://evil.example"}).status_code == 403
    assert server.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
    same = {"origin": f"http://127.0.0.1:{server.port}"}
    assert server.get("/v1/models", headers=same).status_code == 200


def test_http_1_0_and_pipelining(server: Server) -> None:
    old = b"GET /health HTTP/1.0\r\n\r\n"
    assert server.raw(old).startswith(b"HTTP/1.1 200")
    one = request_bytes("/v1/completions", b'{"prompt": "a", "max_tokens": 1}')
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert server.raw(one * 3 + last).count(b"HTTP/1.1 200") == 4
