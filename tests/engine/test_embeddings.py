"""Embeddings: the hidden states of the NumPy reference, whatever ran beside them."""

from pathlib import Path

import numpy as np
import pytest

from sixfold import LLM
from sixfold.core.errors import RequestError

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
PROMPTS = [list(range(3, 3 + n)) for n in (1, 5, 40, 100, 150)]


def build(tmp_path, **options) -> LLM:
    settings = {"dtype": "f32", "kv_cache_memory_mb": 32, "max_model_len": 256, **options}
    return LLM(str(TINY), cache_dir=str(tmp_path), **settings)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


@pytest.fixture(scope="module")
def llm(cache):
    return build(cache)


def hidden(llm: LLM, prompt: list[int]) -> np.ndarray:
    """What the output projection reads, token by token, from a reference engine."""
    states = []
    runner = llm.engine._runner
    take = runner._pooler.take

    def watched(chunk, request, rows):
        states.append(rows.copy())
        return take(chunk, request, rows)

    runner._pooler.take = watched
    llm.embed([prompt])
    runner._pooler.take = take
    return np.concatenate(states)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_vectors_are_those_of_the_reference(cache, llm, pooling):
    reference = build(cache, executor="reference")
    for prompt, vector in zip(PROMPTS, llm.embed(PROMPTS, pooling), strict=True):
        states = hidden(reference, prompt)
        assert states.shape == (len(prompt), llm.engine.model_config.hidden_size)
        expected = states.mean(axis=0) if pooling == "mean" else states[-1]
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-5)
        assert abs(np.linalg.norm(vector) - 1) < 1e-6


@pytest.mark.parametrize(
    "options", [{"max_num_batched_tokens": 7}, {"batching": "static"}, {"batching": "dynamic"},
                {"enable_prefix_caching": False}, {"max_num_seqs": 1}], ids=str,
)  # fmt: skip
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_neither_chunks_nor_batches_change_a_vector(cache, llm, options, pooling):
    other = build(cache, **options)
    for _ in range(2):  # the second time from the prefix cache, where there is one
        np.testing.assert_allclose(
            other.embed(PROMPTS, pooling), llm.embed(PROMPTS, pooling), atol=1e-6
        )


def test_preempted_half_way_the_sum_begins_anew(cache, llm):
    other = build(cache, max_num_batched_tokens=16)
    step, count = other.engine.step, 0

    def disturbed():
        nonlocal count
        deltas, count = step(), count + 1
        if count in (3, 7):
            for name in list(other.engine._live):
                other.engine._scheduler.preempt(name)
        return deltas

    other.engine.step = disturbed
    np.testing.assert_allclose(other.embed(PROMPTS), llm.embed(PROMPTS), atol=1e-6)
    assert other.engine.stats().num_preemptions > 0


def test_texts_are_near_themselves(llm):
    scores = llm.score("the river runs", ["the river runs", "42 copper lanterns!"])
    assert scores[0] == pytest.approx(1.0, abs=1e-6) and scores[1] < scores[0]


def test_generation_goes_on_beside_embeddings(llm):
    from sixfold import SamplingParams

    greedy = SamplingParams(temperature=0, max_tokens=5, ignore_eos=True)
    before = llm.generate([[5, 6, 7]], greedy)[0].outputs[0].token_ids
    llm.embed([[5, 6, 7]])
    assert llm.generate([[5, 6, 7]], greedy)[0].outputs[0].token_ids == before


def test_bad_prompts_are_refused_and_nothing_is_left(llm):
    with pytest.raises(RequestError, match="empty"):
        llm.embed([[5, 6], []])
    assert not llm.engine.has_unfinished()
    assert llm.embed([[5, 6]]).shape[0] == 1
