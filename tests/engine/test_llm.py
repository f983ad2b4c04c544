"""LLM on a real (tiny) model: the whole-prompt API, its options, and its errors."""

from pathlib import Path

import numpy as np
import pytest

from sixfold import LLM, SamplingParams
from sixfold.core.errors import ConfigError, ModelError, RequestError
from sixfold.engine.scoring import Scorer

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    cache = tmp_path_factory.mktemp("packed")
    return LLM(
        str(TINY), dtype="f32", kv_cache_memory_mb=32, max_model_len=256, cache_dir=str(cache)
    )


def greedy(**options) -> SamplingParams:
    return SamplingParams(**{"temperature": 0, "max_tokens": 8, "ignore_eos": True, **options})


def test_prompts_as_text_and_ids_agree(llm):
    text = "hello there"
    ids = llm.engine.tokenizer.encode(text)
    first, second = llm.generate([text], greedy())[0], llm.generate([ids], greedy())[0]
    assert first.outputs[0].token_ids == second.outputs[0].token_ids
    assert first.prompt == text and second.prompt is None
    assert first.outputs[0].finish_reason == "length"
    assert first.outputs[0].text == llm.engine.tokenizer.decode(first.outputs[0].token_ids)


def test_logprobs_are_those_of_the_model(llm, tmp_path):
    ids = [5, 9, 33, 120, 77, 41]
    out = llm.generate([ids], greedy(max_tokens=1, logprobs=3, prompt_logprobs=2))[0]
    expected = Scorer(TINY, "f32", tmp_path, max_len=64).logprobs(ids)
    best = np.argsort(-expected[-1], kind="stable")[:3]
    entries = out.outputs[0].logprobs[0]
    assert [e.token_id for e in entries] == [best[0], *best]
    assert [e.rank for e in entries] == [1, 1, 2, 3]
    np.testing.assert_allclose([e.logprob for e in entries[1:]], expected[-1][best], atol=1e-4)
    assert out.prompt_logprobs[0] is None and len(out.prompt_logprobs) == len(ids)
    for position, scored in enumerate(out.prompt_logprobs[1:]):
        assert scored[0].token_id == ids[position + 1] and len(scored) == 3
        assert abs(scored[0].logprob - expected[position][ids[position + 1]]) < 1e-4


def test_n_gives_different_seeded_samples(llm):
    params = SamplingParams(n=4, temperature=1.5, seed=3, max_tokens=8, ignore_eos=True)
    once, twice = llm.generate("abc", params)[0], llm.generate("abc", params)[0]
    sequences = [o.token_ids for o in once.outputs]
    assert sequences == [o.token_ids for o in twice.outputs]
    assert len({tuple(s) for s in sequences}) > 1
    assert [o.index for o in once.outputs] == [0, 1, 2, 3]


def test_n_may_be_asked_for_with_the_highest_seed(llm):
    params = SamplingParams(n=3, temperature=1.5, seed=2**63 - 1, max_tokens=8, ignore_eos=True)
    sequences = [o.token_ids for o in llm.generate("abc", params)[0].outputs]
    assert len({tuple(s) for s in sequences}) == 3
    alone = SamplingParams(temperature=1.5, seed=1, max_tokens=8, ignore_eos=True)
    assert llm.generate("abc", alone)[0].outputs[0].token_ids == sequences[1]


def test_a_stop_string_need_not_be_in_a_list(llm):
    text = llm.generate("abc", greedy(max_tokens=24))[0].outputs[0].text
    stop = text[6:9]
    assert len(stop) == 3 and text.index(stop) > min(text.index(char) for char in stop)
    out = llm.generate("abc", greedy(max_tokens=24, stop=stop))[0].outputs[0]
    assert (out.text, out.stop_reason) == (text[: text.index(stop)], stop)


def test_logit_bias_min_tokens_and_stop_ids(llm):
    forced = llm.generate("abc", greedy(logit_bias={17: 100.0}))[0].outputs[0]
    assert forced.token_ids == [17] * 8
    stopped = llm.generate("abc", greedy(logit_bias={17: 100.0}, stop_token_ids=[17]))[0].outputs[0]
    assert (stopped.token_ids, stopped.finish_reason, stopped.stop_reason) == ([17], "stop", 17)
    late = greedy(logit_bias={17: 100.0}, stop_token_ids=[17], min_tokens=3)
    banned = llm.generate("abc", late)[0].outputs[0]
    assert 17 not in banned.token_ids[:3] and banned.token_ids[3:] == [17]


def test_penalties_change_a_repeating_answer(llm):
    plain = llm.generate("abc", greedy(max_tokens=24))[0].outputs[0].token_ids
    params = greedy(max_tokens=24, frequency_penalty=2.0, presence_penalty=2.0)
    punished = llm.generate("abc", params)[0].outputs[0].token_ids
    assert punished[0] == plain[0] and len(set(punished)) > len(set(plain))


def test_cached_tokens_and_timings_are_reported(llm):
    ids = list(range(3, 103))
    llm.engine.reset_prefix_cache()
    cold, warm = (llm.generate([ids], greedy())[0].outputs[0].timings for _ in range(2))
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 96)
    assert cold.prefill > 0 and cold.decode > 0 and cold.preemptions == 0


def test_a_bad_request_leaves_the_engine_as_it_was(llm):
    for prompt, params in (
        ([], greedy()), ([10**6], greedy()), ([1] * 256, greedy()),
        ([1], SamplingParams(temperature=-1)), ([1], greedy(stop_token_ids=[10**6])),
    ):  # fmt: skip
        with pytest.raises(RequestError):
            llm.generate([[1, 2], prompt], params)
        assert not llm.engine.has_unfinished()
    assert len(llm.generate([[1, 2]], greedy())[0].outputs[0].token_ids) == 8


def test_token_ids_must_be_integers(llm):
    for prompts in (
        [[1.5, 2]], [[1, 2.0]], [[True, 2]], [1, 2.0], [1.5, 2], [[None]], [10**400],
        [[1, 2], 3], [1, "two"], [[1, "2"]],
    ):  # fmt: skip
        with pytest.raises(RequestError) as caught:
            llm.generate(prompts, greedy())
        assert caught.value.param == "prompt" and caught.value.hint
        assert not llm.engine.has_unfinished()
    plain = llm.generate([3, 4, 5], greedy())[0].outputs[0].token_ids
    for prompts in (np.array([3, 4, 5]), [np.array([3, 4, 5])], (3, 4, 5)):
        assert llm.generate(prompts, greedy())[0].outputs[0].token_ids == plain


def test_an_impossible_n_is_refused_before_its_sequences_are_made(llm):
    with pytest.raises(RequestError, match="n is"):
        llm.generate("abc", greedy(n=10**400))


def test_reference_executor_gives_the_same_tokens(llm, tmp_path):
    options = {"dtype": "f32", "max_model_len": 64, "num_kv_blocks": 16, "cache_dir": str(tmp_path)}
    slow = LLM(str(TINY), executor="reference", **options)
    prompts = [[7, 8, 9], list(range(40))]
    params = greedy(max_tokens=4, logprobs=2)
    ours, theirs = llm.generate(prompts, params), slow.generate(prompts, params)
    assert [o.outputs[0].token_ids for o in ours] == [o.outputs[0].token_ids for o in theirs]
    for mine, its in zip(ours, theirs, strict=True):
        pairs = zip(mine.outputs[0].logprobs, its.outputs[0].logprobs, strict=True)
        for one, other in pairs:
            assert [each.token_id for each in one] == [each.token_id for each in other]
            assert len(one) >= 2
            values = [each.logprob for each in one]
            assert values == pytest.approx([each.logprob for each in other], abs=1e-3)


def test_impossible_settings_are_said_so(tmp_path):
    with pytest.raises(ModelError, match="max_model_len"):
        LLM(str(TINY), max_model_len=10**6, cache_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="isa"):
        LLM(str(TINY), isa="quantum")
