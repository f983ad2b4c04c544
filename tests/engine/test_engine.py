"""LLMEngine step by step: requests come, go, and come again under the same id."""

import time
from pathlib import Path

import pytest

from sixfold.core.config import EngineConfig
from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.engine import LLMEngine
from sixfold.engine.kernels.ops import PARTS

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"


def make_engine(cache: Path, **options) -> LLMEngine:
    settings = {"dtype": "f32", "kv_cache_memory_mb": 32, "max_model_len": 256, **options}
    return LLMEngine(EngineConfig(model=str(TINY), cache_dir=str(cache), **settings))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return make_engine(tmp_path_factory.mktemp("packed"))


def request(name: str, prompt=(5, 6, 7), **fields) -> EngineRequest:
    params = SamplingParams(**{"temperature": 0, "max_tokens": 4, "ignore_eos": True, **fields})
    return EngineRequest(
        request_id=name, prompt_token_ids=list(prompt), params=params, arrival_time=time.monotonic()
    )


def run(engine: LLMEngine, one: EngineRequest) -> list[int]:
    engine.add_request(one)
    found: list[int] = []
    while engine.has_unfinished():
        for delta in engine.step():
            assert delta.request_id == one.request_id
            found += delta.token_ids
    return found


def test_a_request_id_may_be_used_again_with_other_parameters(engine):
    plain = run(engine, request("plain"))
    assert run(engine, request("a", logit_bias={17: 100.0})) == [17] * 4
    assert run(engine, request("a")) == plain != [17] * 4
    assert run(engine, request("a", logit_bias={18: 100.0})) == [18] * 4


def test_min_tokens_holds_again_for_the_next_request_of_an_id(engine):
    late = {"logit_bias": {17: 100.0}, "stop_token_ids": [17], "min_tokens": 2}
    first, second = run(engine, request("b", **late)), run(engine, request("b", **late))
    assert first == second and 17 not in first[:2] and first[2:] == [17]


def test_the_same_record_sent_twice_is_two_requests(engine):
    punished = {"frequency_penalty": 2.0, "min_tokens": 2, "stop_token_ids": [17], "max_tokens": 9}
    one = request("c", logit_bias={17: 100.0}, **punished)
    assert (
        run(engine, one)
        == run(engine, one)
        == run(engine, request("d", **punished, logit_bias={17: 100.0}))
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_an_aborted_request_gives_its_blocks_back_within_two_steps(engine, steps):
    (pool,) = engine._scheduler._kv.pools
    assert pool.num_used == 0
    for name in ("stays", "goes"):
        engine.add_request(request(name, prompt=range(3, 120), max_tokens=100))
    for _ in range(steps):
        engine.step()
    before = pool.num_used
    engine.abort("goes")
    for _ in range(2):
        engine.step()
    both = pool.num_used
    assert 0 < both < before
    engine.abort("stays")
    for _ in range(2):
        engine.step()
    assert pool.num_used == 0


def test_time_of_steps_is_told_by_part(tmp_path):
    """Each part's counter grows, and all of them are the time that went by with work waiting."""
    engine = make_engine(tmp_path)
    began = time.perf_counter()
    run(engine, request("a", max_tokens=12))
    elapsed = time.perf_counter() - began
    seconds = engine.stats().step_seconds
    assert set(seconds) == {*PARTS, "python"}
    assert all(value >= 0 for value in seconds.values()) and seconds["gemm"] > 0
    assert 0 < sum(seconds.values()) <= elapsed
    reference = make_engine(tmp_path, executor="reference")
    run(reference, request("a", max_tokens=2))
    assert reference.stats().step_seconds["other"] > 0
