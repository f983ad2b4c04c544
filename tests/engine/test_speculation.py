"""Speculation changes nothing: the same tokens, texts, logprobs and keys, whatever is drafted.

The costs are set so that drafting always pays: with true ones a tiny model hardly ever drafts.
"""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from sixfold import LLM, SamplingParams
from sixfold.core.errors import ConfigError
from sixfold.engine.speculative.cost import StepCost

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
SOURCES = ("ngram", "suffix", "self", f"draft={TINY}", "auto")
VOCABULARY = 256


class Free(StepCost):
    """As if rows cost nothing."""

    def __init__(self) -> None:
        super().__init__([1], [1.0])

    def curve(self, rows: int) -> float:
        return 1e-3

    def learn(self, rows: int, seconds: float) -> None:
        pass


class Nothing(Free):
    """As if a drafting model took no time."""

    def curve(self, rows: int) -> float:
        return 1e-9


def build(tmp_path, speculative: str, model: Path = TINY, **options) -> LLM:
    settings = {"kv_cache_memory_mb": 64, "max_model_len": 512, "dtype": "bf16", **options}
    llm = LLM(str(model), cache_dir=str(tmp_path), speculative=speculative, **settings)
    speculator = llm.engine._speculator
    if speculator is not None:
        speculator._cost, speculator._model_cost = Free(), Nothing()
    return llm


def prompts(count: int) -> list[list[int]]:
    """Random ones, and such that say things twice."""
    rng = random.Random(3)
    found = []
    for i in range(count):
        some = [rng.randrange(3, 200) for _ in range(rng.choice([3, 20, 70]))]
        found.append(some * 2 if i % 2 else some)
    return found


KINDS = {
    "greedy": {"temperature": 0},
    "hot": {"temperature": 1.3},
    "nucleus": {"temperature": 0.9, "top_p": 0.8, "top_k": 30, "min_p": 0.01},
    "penalties": {"temperature": 0.7, "frequency_penalty": 0.5, "presence_penalty": 0.2,
                  "repetition_penalty": 1.2},
    "greedy, penalties": {"temperature": 0, "frequency_penalty": 0.5},
    "stops": {"temperature": 0.8, "stop_token_ids": list(range(3, 40)), "min_tokens": 5},
    "biases": {"temperature": 0.8, "logit_bias": {17: 4.0, 18: 3.0}},
    "logprobs": {"temperature": 0.8, "logprobs": 3},
}  # fmt: skip


def params(kind: str, count: int, max_tokens: int) -> list[SamplingParams]:
    return [
        SamplingParams(**{"ignore_eos": True, "max_tokens": max_tokens, "seed": i, **KINDS[kind]})
        for i in range(count)
    ]


def answers(llm: LLM, kind: str, count: int = 6, max_tokens: int = 40):
    outputs = llm.generate(prompts(count), params(kind, count, max_tokens))
    return [
        (o.outputs[0].token_ids, o.outputs[0].text, o.outputs[0].logprobs,
         o.outputs[0].finish_reason, o.outputs[0].stop_reason)
        for o in outputs
    ]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


@pytest.fixture(scope="module")
def plain(cache):
    return build(cache, "off")


@pytest.mark.parametrize("source", SOURCES)
def test_all_ways_to_sample_give_what_they_give_without(cache, plain, source):
    llm = build(cache, source)
    for kind in KINDS:
        assert answers(llm, kind) == answers(plain, kind), kind
    stats = llm.engine.stats()
    assert 0 < stats.num_accepted_tokens <= stats.num_draft_tokens
    itself = source.startswith("draft=")
    assert itself == (stats.num_accepted_tokens == stats.num_draft_tokens), "the same model agrees"
    assert sum(stats.accepted_by_position) == stats.num_accepted_tokens


@pytest.mark.parametrize("source", ("ngram", "self", f"draft={TINY}"))
@pytest.mark.parametrize(
    "options",
    [
        {"max_num_batched_tokens": 7}, {"max_num_seqs": 2}, {"num_kv_blocks": 12},
        {"enable_prefix_caching": False}, {"kv_cache_dtype": "int8"}, {"dtype": "f32"},
        {"num_speculative_tokens": 1}, {"num_speculative_tokens": 30},
    ],
    ids=str,
)  # fmt: skip
def test_beside_other_strategies(cache, source, options):
    without = {k: v for k, v in options.items() if k in ("kv_cache_dtype", "dtype")}
    expected = answers(build(cache, "off", **without), "greedy", 8)
    assert answers(build(cache, source, **options), "greedy", 8) == expected


def test_sliding_windows(cache, gemma):
    """A model whose layers forget: blocks are given back while drafts run ahead."""

    def run(source: str):
        llm = build(cache, source, Path(gemma), max_num_batched_tokens=64)
        return answers(llm, "greedy", 6, 100)

    assert run("ngram") == run("self") == run("off")


def test_preempted_in_the_middle_of_a_draft(cache, plain):
    llm = build(cache, "self")
    step, count = llm.engine.step, itertools.count(1)

    def disturbed():
        deltas = step()
        live = sorted(llm.engine._live)
        if live and next(count) % 3 == 0:
            llm.engine._scheduler.preempt(live[0])
        return deltas

    llm.engine.step = disturbed
    assert answers(llm, "hot") == answers(plain, "hot")
    assert llm.engine.stats().num_preemptions > 0


def test_stop_strings_and_lengths_inside_a_draft(cache, plain):
    def ends(llm: LLM, text: str):
        some = SamplingParams(temperature=0, max_tokens=60, stop=text, ignore_eos=True)
        return [(o.outputs[0].text, o.outputs[0].finish_reason, len(o.outputs[0].token_ids))
                for o in llm.generate(prompts(4), some)]  # fmt: skip

    llm = build(cache, "self")
    whole = plain.generate(prompts(1), SamplingParams(temperature=0, max_tokens=60))
    text = whole[0].outputs[0].text
    for stop in (text[5:7], text[10:14], text[20:21]):
        assert ends(llm, stop) == ends(plain, stop)
    for most in range(1, 12):
        assert answers(llm, "greedy", 3, most) == answers(plain, "greedy", 3, most)


def keys_and_values(llm: LLM, name: str) -> list[np.ndarray]:
    """What the cache holds of a running request's computed tokens, layer by layer."""
    engine = llm.engine
    state = engine._scheduler._requests[name]
    (table,) = state.kv.tables
    arena = engine._runner._executor.arena(0)
    dim, tile = engine.model_config.head_dim, 32
    found = []
    for index in range(-(-state.num_computed // tile)):
        valid = min(tile, state.num_computed - index * tile)
        pages = arena[table[index]].view(np.uint16).reshape(-1, 2 * tile * dim)
        keys = pages[:, : tile * dim].reshape(-1, dim // 2, tile, 2)
        values = pages[:, tile * dim :].reshape(-1, dim // 32, tile // 2, 32, 2)
        values = values.transpose(0, 2, 4, 1, 3).reshape(-1, tile, dim)
        found += [keys[:, :, :valid], values[:, :valid]]
    return found


def test_the_cache_is_byte_for_byte_as_if_nothing_had_been_drafted(cache):
    found = {}
    for source in ("off", "ngram", "self"):
        llm = build(cache, source)
        add(llm, "a", prompts(2)[1], max_tokens=120)
        while len(llm.engine._live["a"].output) < 60:
            llm.engine.step()
        found[source] = (llm.engine._live["a"].output, keys_and_values(llm, "a"))
        llm.engine.abort("a")
    tokens = min(len(output) for output, _ in found.values())
    for output, pages in found.values():
        assert output[:tokens] == found["off"][0][:tokens]
        for ours, theirs in zip(pages[:-2], found["off"][1], strict=False):
            assert np.array_equal(ours, theirs)


def add(llm: LLM, name: str, prompt: list[int], max_tokens: int) -> None:
    from sixfold.core.request import EngineRequest

    some = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
    llm.engine.add_request(EngineRequest(request_id=name, prompt_token_ids=prompt, params=some))


def test_a_model_that_drafts_for_itself_is_right_nearly_always(cache):
    llm = build(cache, f"draft={TINY}")
    answers(llm, "greedy", 4, 100)
    stats = llm.engine.stats()
    assert stats.num_accepted_tokens / stats.num_draft_tokens > 0.9


def test_true_costs_leave_a_tiny_model_alone_or_pay(cache, plain):
    llm = LLM(str(TINY), cache_dir=str(cache), dtype="bf16", speculative="auto",
              kv_cache_memory_mb=64, max_model_len=512)  # fmt: skip
    assert answers(llm, "hot") == answers(plain, "hot")


def test_what_cannot_draft_says_so(cache, gemma):
    with pytest.raises(ConfigError, match="already"):
        build(cache, "self", dtype="int4")
    with pytest.raises(ConfigError, match="vocabulary"):
        build(cache, f"draft={gemma}")
    with pytest.raises(ConfigError, match="speculative is 'magic'"):
        build(cache, "magic")
    with pytest.raises(ConfigError, match="native"):
        build(cache, "self", executor="reference")
