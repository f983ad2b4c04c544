"""`sixfold serve` on a tiny model, native executor: HTTP says what `LLM.generate` says here."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from server_harness import Server, events, serving

from sixfold import LLM, SamplingParams
from sixfold.core.request import CompletionOutput, Logprob
from sixfold.serving.server import responses
from sixfold.serving.server.render import token_text, top_ranked

TINY = Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
DTYPES = ("f32", "int4")
PROMPTS = ["Once upon a time", "def main():", "The quick brown fox jumps over the lazy dog. " * 3]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there, how are you?"},
]
GREEDY = {"temperature": 0, "max_tokens": 24, "ignore_eos": True}
SEEDED = {"temperature": 0.9, "top_p": 0.9, "seed": 11, "max_tokens": 24, "ignore_eos": True}
SAMPLINGS = pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])


class Both:
    """The same model twice: behind HTTP, and in this process."""

    def __init__(self, server: Server, llm: LLM) -> None:
        self.server = server
        self.llm = llm
        self.tokenizer = llm.engine.tokenizer

    def outputs(self, prompt: str | list[int], **sampling: Any) -> list[CompletionOutput]:
        """What this process's engine gives."""
        return self.llm.generate([prompt], SamplingParams(**sampling))[0].outputs

    def complete(self, prompt: object, **fields: Any) -> responses.CompletionResponse:
        """A whole answer of /v1/completions."""
        answer = self.server.post("/v1/completions", {"prompt": prompt, **fields})
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=responses.CompletionResponse)

    def chat(self, **fields: Any) -> responses.ChatResponse:
        """A whole answer of /v1/chat/completions."""
        answer = self.server.post("/v1/chat/completions", {"messages": MESSAGES, **fields})
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=responses.ChatResponse)

    def stream(self, path: str, **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a stream, which ends with [DONE]."""
        with (
            self.server.client() as client,
            client.stream("POST", path, json={"stream": True, **fields}) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            *chunks, done = events(answer.iter_lines())
        assert done == "[DONE]"
        return [chunk for chunk in chunks if isinstance(chunk, dict)]

    def chat_ids(self) -> list[int]:
        """The tokens of MESSAGES."""
        text = self.tokenizer.apply_chat_template(list(MESSAGES))
        return self.tokenizer.encode(text, add_special_tokens=False)


@pytest.fixture(scope="module", params=DTYPES)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    cache = str(tmp_path_factory.mktemp("packed"))
    flags = ("--kv-cache-memory-mb", "32", "--max-model-len", "256", "--cache-dir", cache)
    server = serving(str(TINY), "--dtype", request.param, *flags)
    try:
        llm = LLM(
            str(TINY),
            dtype=request.param,
            kv_cache_memory_mb=32,
            max_model_len=256,
            cache_dir=cache,
        )
        yield Both(server, llm)
        assert server.stop() == 0 and "Traceback" not in server.stderr()
    finally:
        server.kill()
        server.close()


def texts_of(chunks: list[dict[str, Any]]) -> dict[int, str]:
    """Choice -> its text, from chunks of either route."""
    found: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            text = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            found[choice["index"]] = found.get(choice["index"], "") + text
    return found


@SAMPLINGS
def test_completions_are_those_of_the_engine(both: Both, sampling: dict[str, Any]) -> None:
    """As text and as token ids, alone, all together, and streamed."""
    expected = [both.outputs(prompt, **sampling)[0].text for prompt in PROMPTS]
    assert len(set(expected)) == len(PROMPTS) and all(expected)
    ids = [both.tokenizer.encode(prompt) for prompt in PROMPTS]
    for prompts in (PROMPTS, ids):
        alone = [both.complete(prompt, **sampling).choices[0] for prompt in prompts]
        assert [choice.text for choice in alone] == expected
        together = both.complete(prompts, **sampling)
        assert [choice.text for choice in together.choices] == expected
        assert [choice.index for choice in together.choices] == [0, 1, 2]
        assert {choice.finish_reason for choice in together.choices} == {"length"}
        assert together.usage.prompt_tokens == sum(map(len, ids))
        assert together.usage.completion_tokens == 24 * 3
        streamed = both.stream("/v1/completions", prompt=prompts, **sampling)
        assert texts_of(streamed) == dict(enumerate(expected))


@SAMPLINGS
def test_chats_are_those_of_the_engine(both: Both, sampling: dict[str, Any]) -> None:
    """Streamed and not, as `LLM.chat` and as the template's own tokens give it."""
    expected = both.outputs(both.chat_ids(), **sampling)[0].text
    assert both.llm.chat(MESSAGES, SamplingParams(**sampling))[0].outputs[0].text == expected
    answer = both.chat(**sampling)
    assert [choice.message.content for choice in answer.choices] == [expected]
    assert answer.usage.prompt_tokens == len(both.chat_ids())
    streamed = both.stream("/v1/chat/completions", messages=MESSAGES, **sampling)
    assert texts_of(streamed) == {0: expected}
    assert streamed[-1]["choices"][0]["finish_reason"] == "length"


def test_two_choices(both: Both) -> None:
    """n=2 is the engine's n=2, in either route, streamed and not."""
    for prompt, path, body in (
        (PROMPTS[0], "/v1/completions", {"prompt": PROMPTS[0]}),
        (both.chat_ids(), "/v1/chat/completions", {"messages": MESSAGES}),
    ):
        expected = {o.index: o.text for o in both.outputs(prompt, n=2, **SEEDED)}
        assert len(set(expected.values())) == 2
        assert texts_of(both.stream(path, n=2, **body, **SEEDED)) == expected
        choices = both.server.post(path, {"n": 2, **body, **SEEDED}).json()["choices"]
        whole = {
            c["index"]: c["message"]["content"] if "message" in c else c["text"] for c in choices
        }
        assert whole == expected


def test_echo_puts_the_prompt_first(both: Both) -> None:
    prompt = PROMPTS[1]
    expected = prompt + both.outputs(prompt, **GREEDY)[0].text
    ids = both.tokenizer.encode(prompt)
    for sent in (prompt, ids):
        assert both.complete(sent, echo=True, **GREEDY).choices[0].text == expected
        streamed = both.stream("/v1/completions", prompt=sent, echo=True, **GREEDY)
        assert texts_of(streamed) == {0: expected}
    only = both.complete(prompt, echo=True, **(GREEDY | {"max_tokens": 0}))
    assert (only.choices[0].text, only.usage.completion_tokens) == (prompt, 0)


def test_logprobs_of_a_completion(both: Both) -> None:
    """With echo also those of the prompt; streamed, the same in pieces."""
    prompt = PROMPTS[0]
    ids = both.tokenizer.encode(prompt)
    params = SamplingParams(**GREEDY, logprobs=3, prompt_logprobs=3)
    told = both.llm.generate([prompt], params)[0]
    scores = [*(told.prompt_logprobs or []), *(told.outputs[0].logprobs or [])]
    tokens = [token_text(both.tokenizer, i) for i in [*ids, *told.outputs[0].token_ids]]

    def check(given: Any, entries: list[list[Logprob] | None], names: list[str]) -> None:
        assert given["tokens"] == names and len(entries) == len(names)
        best = [None if e is None else pytest.approx(e[0].logprob, abs=1e-5) for e in entries]
        assert given["token_logprobs"] == best
        for top, entry in zip(given["top_logprobs"], entries, strict=True):
            assert (top is None) == (entry is None)
            for item in entry or []:
                assert top[token_text(both.tokenizer, item.token_id)] == pytest.approx(
                    item.logprob, abs=1e-5
                )
        starts = [sum(map(len, names[:i])) for i in range(len(names))]
        assert [at - given["text_offset"][0] for at in given["text_offset"]] == starts

    for echo in (False, True):
        skip = 0 if echo else len(ids)
        body = {"prompt": prompt, "echo": echo, "logprobs": 3, **GREEDY}
        whole = both.server.post("/v1/completions", body).json()["choices"][0]["logprobs"]
        check(whole, scores[skip:], tokens[skip:])
        parts = [c["choices"][0]["logprobs"] for c in both.stream("/v1/completions", **body)]
        assert {key: [x for part in parts for x in part[key]] for key in whole} == whole


def test_logprobs_of_a_chat(both: Both) -> None:
    told = both.outputs(both.chat_ids(), logprobs=2, **GREEDY)[0]
    body = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, **GREEDY}
    content = both.server.post("/v1/chat/completions", body).json()["choices"][0]["logprobs"][
        "content"
    ]
    assert [bytes(entry["bytes"]) for entry in content] == [
        both.tokenizer.token_bytes(token) for token in told.token_ids
    ]
    for entry, scores in zip(content, told.logprobs or [], strict=True):
        assert entry["logprob"] == pytest.approx(scores[0].logprob, abs=1e-5)
        best = [pytest.approx(s.logprob, abs=1e-5) for s in top_ranked(scores, 2)]
        assert [top["logprob"] for top in entry["top_logprobs"]] == best
    streamed = both.stream("/v1/chat/completions", **body)
    parts = [chunk["choices"][0]["logprobs"]["content"] for chunk in streamed]
    assert [entry for part in parts for entry in part] == content


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_usage_of_a_stream_comes_last_and_only_when_asked(both: Both, path: str) -> None:
    body = {"prompt": PROMPTS[0]} if path == "/v1/completions" else {"messages": MESSAGES}
    whole = both.server.post(path, {**body, **GREEDY}).json()["usage"]
    *chunks, last = both.stream(path, stream_options={"include_usage": True}, **body, **GREEDY)
    assert last["choices"] == [] and all(chunk["usage"] is None for chunk in chunks)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == whole[name]
    plain = both.stream(path, **body, **GREEDY)
    assert all(chunk["choices"] and "usage" not in chunk for chunk in plain)


@pytest.mark.parametrize("keep", [False, True])
def test_stop_strings(both: Both, keep: bool) -> None:
    """The answer ends before the text, or behind it, as the engine's does."""
    free = both.outputs(PROMPTS[0], **GREEDY)[0].text
    stop = free[len(free) // 2 :][:3]
    fields = {**GREEDY, "stop": [stop], "include_stop_str_in_output": keep}
    told = both.outputs(PROMPTS[0], **fields)[0]
    at = free.index(stop)
    assert told.text == free[: at + len(stop) * keep]
    choice = both.complete(PROMPTS[0], **fields).choices[0]
    assert (choice.text, choice.finish_reason, choice.stop_reason) == (told.text, "stop", stop)
    streamed = both.stream("/v1/completions", prompt=PROMPTS[0], **fields)
    assert texts_of(streamed) == {0: told.text}
    assert streamed[-1]["choices"][0]["finish_reason"] == "stop"
    as_text = both.complete(PROMPTS[0], **(fields | {"stop": stop})).choices[0]
    assert as_text.text == told.text


def test_embeddings_are_those_of_this_process(both: Both) -> None:
    expected = both.llm.embed(PROMPTS)
    for encoding in ("float", "base64"):
        body = {"input": PROMPTS, "encoding_format": encoding}
        answer = both.server.post("/v1/embeddings", body)
        assert answer.status_code == 200, answer.text
        found = msgspec.json.decode(answer.content, type=responses.EmbeddingResponse)
        vectors = [
            np.frombuffer(base64.b64decode(one.embedding), "<f4")
            if isinstance(one.embedding, str) else np.array(one.embedding)
            for one in found.data
        ]  # fmt: skip
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
        sizes = sum(len(both.tokenizer.encode(text)) for text in PROMPTS)
        assert found.usage.prompt_tokens == found.usage.total_tokens == sizes


def test_shorter_embeddings_have_length_one_again(both: Both) -> None:
    body = {"input": "hello", "dimensions": 8, "pooling": "last"}
    answer = both.server.post("/v1/embeddings", body)
    vector = np.array(answer.json()["data"][0]["embedding"])
    whole = both.llm.embed("hello", "last")[0][:8]
    np.testing.assert_allclose(vector, whole / np.linalg.norm(whole), atol=1e-6)
    body = {"input": "hello", "dimensions": 1 << 19}
    refused = both.server.post("/v1/embeddings", body)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "dimensions"


def test_documents_come_back_nearest_first(both: Both) -> None:
    documents = [*PROMPTS, "Once upon a time"]
    expected = both.llm.score("Once upon a time", documents)
    body = {"query": "Once upon a time", "documents": documents, "top_n": 2}
    answer = both.server.post("/v1/rerank", body).json()
    assert [one["index"] for one in answer["results"]] == [0, 3]
    assert answer["results"][0]["document"]["text"] == documents[0]
    assert answer["results"][0]["relevance_score"] == pytest.approx(expected[0], abs=1e-6)
    bare = both.server.post("/v1/rerank", body | {"return_documents": False}).json()
    assert "document" not in bare["results"][0]


def test_scores_pair_texts(both: Both) -> None:
    first, second = PROMPTS[:2]
    expected = both.llm.score(first, [second, first])
    body = {"text_1": first, "text_2": [second, first]}
    answer = both.server.post("/score", body).json()
    assert [one["score"] for one in answer["data"]] == pytest.approx(expected, abs=1e-6)
    paired = both.server.post("/score", {"text_1": [second, first], "text_2": [second, first]})
    assert [one["score"] for one in paired.json()["data"]] == pytest.approx([1, 1], abs=1e-6)
    uneven = both.server.post("/score", {"text_1": [first] * 2, "text_2": [second] * 3})
    assert uneven.status_code == 400 and uneven.json()["error"]["param"] == "text_1"


def test_a_request_says_where_its_time_went(both: Both) -> None:
    began = time.perf_counter()
    answer = both.complete(PROMPTS[2], **GREEDY)
    took = time.perf_counter() - began
    parts = answer.timings.parts
    assert {"http", "queue", "prefill", "decode"} <= set(parts)
    assert 0 < sum(answer.timings.first_token.values()) < sum(parts.values()) <= took
    page = both.server.get("/metrics").text
    assert 'sixfold:request_seconds_total{model_name="' in page and 'part="decode"' in page
