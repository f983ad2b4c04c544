"""Every route's happy path, in OpenAI's shape (decoded strictly into the response structs)."""

import httpx
import msgspec
import pytest
from fake_engine import expected_text, output_token
from server_harness import Server, events

from sixfold.serving.server import responses
from sixfold.serving.server.app import ROUTES


def _completion(response: httpx.Response) -> responses.CompletionResponse:
    assert response.status_code == 200, response.text
    answer = msgspec.json.decode(response.content, type=responses.CompletionResponse)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    return answer


def _chat(response: httpx.Response) -> responses.ChatResponse:
    assert response.status_code == 200, response.text
    answer = msgspec.json.decode(response.content, type=responses.ChatResponse)
    assert answer.object == "chat.completion"
    return answer


def test_a_text_prompt(server: Server) -> None:
    answer = _completion(server.complete("hello", 6))
    assert answer.model == "fake"
    assert answer.choices[0].text == expected_text("hello", 6)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage == responses.Usage(
        prompt_tokens=5,
        completion_tokens=6,
        total_tokens=11,
        prompt_tokens_details=responses.PromptTokensDetails(3),
    )
    assert answer.timings.prefill == 0.002


def test_sixteen_tokens_are_the_default(server: Server) -> None:
    answer = _completion(server.post("/v1/completions", {"prompt": "x", "max_tokens": None}))
    assert len(answer.choices[0].text) == 16


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        (["ab", "cde"], ["ab", "cde"]),
        ([97, 98], ["ab"]),
        ([[97, 98], [99]], ["ab", "c"]),
    ],
)
def test_prompts_of_every_kind(server: Server, prompt: object, texts: list[str]) -> None:
    answer = _completion(server.post("/v1/completions", {"prompt": prompt, "max_tokens": 4}))
    assert [c.text for c in answer.choices] == [expected_text(t, 4) for t in texts]
    assert [c.index for c in answer.choices] == list(range(len(texts)))
    assert answer.usage.prompt_tokens == sum(map(len, texts))


def test_n_choices_count_the_prompt_once(server: Server) -> None:
    answer = _completion(server.complete("abc", 4, n=3, best_of=3))
    assert [c.text for c in answer.choices] == [expected_text("abc", 4)] * 3
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 12)
    assert answer.timings.cached_tokens == 9


def test_more_sequences_than_the_engine_batches(server: Server) -> None:
    answer = _completion(server.complete("abc", 2, n=128))
    assert [c.text for c in answer.choices] == [expected_text("abc", 2)] * 128


def test_echo_with_logprobs(server: Server) -> None:
    answer = _completion(server.complete("hi", 2, echo=True, logprobs=2))
    choice = answer.choices[0]
    assert choice.text == "hi" + expected_text("hi", 2)
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text
    assert logprobs.text_offset == [0, 1, 2, 3]
    assert logprobs.token_logprobs == [None, -0.5, -0.5, -0.5]
    assert [len(top or {}) for top in logprobs.top_logprobs] == [0, 2, 2, 2]


def test_echo_of_token_ids_without_output(server: Server) -> None:
    body = {"prompt": [104, 105], "max_tokens": 0, "echo": True, "logprobs": 1}
    answer = _completion(server.post("/v1/completions", body))
    assert answer.choices[0].text == "hi"
    assert answer.choices[0].logprobs.tokens == ["h", "i"]
    assert answer.usage.completion_tokens == 0


def test_stop_token_ids_and_ignored_fields(server: Server) -> None:
    stop = output_token(list(b"abc"), 2)
    fields = {"stop_token_ids": [stop], "user": "me", "metadata": {"a": 1}, "store": False}
    answer = _completion(server.complete("abc", 9, **fields, logit_bias={"7": -100}))
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == stop
    assert answer.usage.completion_tokens == 3


def test_chat(server: Server) -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    messages = [{"role": "developer", "content": "be"}, {"role": "user", "content": parts}]
    body = {"messages": messages, "max_completion_tokens": 3, "logprobs": True, "top_logprobs": 2}
    answer = _chat(server.post("/v1/chat/completions", body | {"tools": [], "tool_choice": "none"}))
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content == expected_text("s:be\nu:hi\n", 3)
    entry = choice.logprobs.content[0]
    assert (entry.token, entry.bytes) == (choice.message.content[0], [ord(entry.token)])
    assert [t.logprob for t in entry.top_logprobs] == [-0.5, -1.5]


def test_chat_fills_the_context_by_default(server: Server) -> None:
    answer = _chat(server.post("/v1/chat/completions", {"messages": [_user("hi")]}))
    assert answer.usage.total_tokens == 512


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _stream(server: Server, path: str, body: dict) -> list:
    with server.client() as client, client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response.iter_lines()))


def test_completion_stream(server: Server) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    body = {"prompt": ["ab", "c"], "max_tokens": 5, "echo": True, "n": 2} | options
    got = _stream(server, "/v1/completions", body)
    assert got[-1] == "[DONE]"
    chunks = [msgspec.convert(c, responses.CompletionResponse) for c in got[:-1]]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 20
    assert all(c.usage is None for c in chunks[:-1])
    texts = ["", "", "", ""]
    for chunk in chunks[:-1]:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    prompts = ["ab", "ab", "c", "c"]
    assert texts == [p + expected_text(p, 5) for p in prompts]
    assert len({c.id for c in chunks}) == 1


def test_chat_stream(server: Server) -> None:
    body = {"messages": [_user("hi")], "max_tokens": 4, "stream": True}
    got = _stream(server, "/v1/chat/completions", body)
    assert got[-1] == "[DONE]"
    chunks = [msgspec.convert(c, responses.ChatChunk) for c in got[:-1]]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == expected_text("u:hi\n", 4)
    assert [c.choices[0].finish_reason for c in chunks] == [None, None, None, "length"]
    assert chunks[-1].timings.decode == 0.003
    assert "usage" not in got[0]


def test_models(server: Server) -> None:
    listing = msgspec.json.decode(server.get("/v1/models").content, type=responses.ModelList)
    assert [card.id for card in listing.data] == ["fake"]
    card = msgspec.json.decode(server.get("/v1/models/fake").content, type=responses.ModelCard)
    assert card.max_model_len == 512
    assert server.get("/v1/models/other").status_code == 404


def test_tokenize_and_back(server: Server) -> None:
    body = {"prompt": "hé", "return_token_strs": True}
    answer = msgspec.json.decode(
        server.post("/tokenize", body).content, type=responses.TokenizeResponse
    )
    assert (answer.count, answer.max_model_len) == (3, 512)
    assert answer.token_strs == ["h", "bytes:\\xc3", "bytes:\\xa9"]
    back = server.post("/detokenize", {"tokens": answer.tokens}).json()
    assert back == {"prompt": "hé"}
    chat = server.post("/tokenize", {"messages": [_user("x")]}).json()
    assert chat["count"] == 4


def test_the_small_routes(server: Server) -> None:
    assert server.get("/health").json() == {"status": "ok"}
    assert server.get("/ready").status_code == 200
    assert server.get("/version").json()["version"]
    assert server.get("/load").json()["server_load"] == 0
    assert server.post("/reset_prefix_cache", {}).status_code == 200


def test_metrics_have_vllms_names(server: Server) -> None:
    _completion(server.complete("metrics", 3))
    page = server.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    for name in (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:prompt_tokens_cached_total",
        "vllm:num_preemptions_total",
        "vllm:iteration_tokens_total_count",
        "vllm:time_to_first_token_seconds_count",
        "vllm:inter_token_latency_seconds_count",
        "vllm:request_time_per_output_token_seconds_count",
        "vllm:e2e_request_latency_seconds_count",
        "vllm:request_queue_time_seconds_count",
        "vllm:request_prefill_time_seconds_count",
        "vllm:request_decode_time_seconds_count",
    ):
        assert f'{name}{{model_name="fake"}}' in page.text
    assert 'vllm:request_success_total{finished_reason="length",model_name="fake"}' in page.text


def test_keep_alive_serves_many_requests_on_one_connection(server: Server) -> None:
    with server.client() as client:
        for count in range(1, 6):
            body = {"prompt": "abc", "max_tokens": count}
            assert _completion(client.post("/v1/completions", json=body)).usage.total_tokens


def test_every_route_is_known_here() -> None:
    """A new route has to come into this file: it lists what is tested."""
    # Files and batches: tests/serving/batch/test_api.py.
    batches = {
        "/v1/files", "/v1/files/{id}", "/v1/files/{id}/content",
        "/v1/batches", "/v1/batches/{id}", "/v1/batches/{id}/cancel",
    }  # fmt: skip
    assert {path for _, path, _ in ROUTES} - batches == {
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/rerank",
        "/v1/score",
        "/score",
        "/v1/models",
        "/v1/models/{id:path}",
        "/tokenize",
        "/detokenize",
        "/health",
        "/ready",
        "/version",
        "/load",
        "/metrics",
        "/reset_prefix_cache",
    }
