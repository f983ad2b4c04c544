"""The pure parts between JSON and the engine: prompts, seeds, salts, logprobs, sums."""

import math

import pytest
from fake_engine import FakeTokenizer
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import RequestError
from sixfold.core.request import Logprob, RequestDelta, Timings
from sixfold.serving.server.convert import (
    check_text,
    plan_completion,
    split_prompts,
    tokenize_prompts,
)
from sixfold.serving.server.protocol import CommonFields, CompletionFields, decode_generation
from sixfold.serving.server.render import CompletionWriter, Prompts, token_text, top_ranked


@given(st.text())
def test_text_is_refused_only_for_nul_and_surrogates(text: str) -> None:
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        with pytest.raises(RequestError):
            check_text(text, "prompt")
    else:
        assert check_text(text, "prompt") == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))))
def test_lists_of_texts_stay_as_they_are(texts: list[str]) -> None:
    if texts:
        assert split_prompts(texts) == texts
    else:
        with pytest.raises(RequestError):
            split_prompts(texts)


def test_a_token_that_is_no_character_is_shown_as_bytes() -> None:
    assert token_text(FakeTokenizer(), 0xE2) == "bytes:\\xe2"
    assert token_text(FakeTokenizer(), 97) == "a"


def test_the_best_tokens_come_once_and_in_order() -> None:
    sampled = Logprob(9, -5.0, 7)
    best = [Logprob(1, -0.1, 1), Logprob(2, -0.2, 2), Logprob(3, -0.3, 3)]
    assert top_ranked([sampled, *best], 2) == best[:2]
    assert top_ranked([best[1], *best], 3) == best
    assert top_ranked([best[1], best[0], best[2]], 2) == best[:2]


def _writer(body: bytes) -> CompletionWriter:
    common, own = decode_generation(body, CompletionFields)
    plan = plan_completion(common, own)
    ids, _ = tokenize_prompts(plan, FakeTokenizer(), 100)
    prompts = Prompts(token_ids=ids, tokenizer=FakeTokenizer(), model="m", request_id="r")
    return CompletionWriter(plan, prompts)


def test_an_impossible_token_has_a_number_that_json_knows() -> None:
    writer = _writer(b'{"prompt": "a", "logprobs": 1}')
    best = [[Logprob(97, -math.inf, 3), Logprob(98, math.nan, 1)]]
    writer.add(0, RequestDelta(request_id="r-0", token_ids=[97], text="a", logprobs=best))
    logprobs = writer.final().choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs == [-9999.0]
    assert logprobs.top_logprobs == [{"a": -9999.0, "b": -9999.0}]


def test_timings_are_the_slowest_and_the_sums() -> None:
    writer = _writer(b'{"prompt": ["a", "b"]}')
    for index, queue in enumerate((0.5, 0.25)):
        timings = Timings(queue=queue, decode=1 - queue, cached_tokens=2, preemptions=1)
        delta = RequestDelta(request_id="r", finish_reason="stop", timings=timings)
        writer.add(index, delta)
    assert writer.final().timings == Timings(queue=0.5, decode=0.75, cached_tokens=4, preemptions=2)


def test_max_tokens_defaults_shrink_to_the_room_that_is_left() -> None:
    common = CommonFields()
    plan = plan_completion(common, CompletionFields(prompt="x" * 95))
    _, params = tokenize_prompts(plan, FakeTokenizer(), 100)
    assert params.max_tokens == 5
    plan = plan_completion(CommonFields(min_tokens=40), CompletionFields(prompt="x"))
    _, params = tokenize_prompts(plan, FakeTokenizer(), 100)
    assert params.max_tokens == 40
    plan = plan_completion(CommonFields(max_tokens=6), CompletionFields(prompt="x" * 95))
    with pytest.raises(RequestError, match="exceed the context"):
        tokenize_prompts(plan, FakeTokenizer(), 100)
