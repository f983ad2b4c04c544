"""Cancels in every phase: blocks come back, and the others never notice.

SIXFOLD_CANCELS sets how many (10,000 in `make test-all`).
"""

import os
import random
import time
from pathlib import Path

import pytest

from engine_support import alone
from sixfold.core.config import EngineConfig
from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.engine import LLMEngine

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
CANCELS = int(os.environ.get("SIXFOLD_CANCELS", "150"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


def make_engine(cache: Path, **options) -> LLMEngine:
    settings = {"dtype": "bf16", "num_kv_blocks": 70, "max_model_len": 512, "max_num_seqs": 8,
                "max_num_batched_tokens": 64, **options}  # fmt: skip
    return LLMEngine(EngineConfig(model=str(TINY), cache_dir=str(cache), **settings))


def request(number: int, rng: random.Random) -> EngineRequest:
    """Of one of a few prompts, so that blocks are shared; some want a vector."""
    kind = rng.randrange(6)
    prompt = [(7 * kind + 3 * i) % 200 + 3 for i in range(20 + 40 * kind)]
    params = SamplingParams(
        temperature=rng.choice([0, 0.8]), seed=number % 7, max_tokens=rng.choice([5, 30, 60]),
        ignore_eos=True, frequency_penalty=rng.choice([0, 0.4]),
    )  # fmt: skip
    pooling = "mean" if rng.random() < 0.1 else None
    return EngineRequest(
        request_id=str(number), prompt_token_ids=prompt, params=params, pooling=pooling,
        arrival_time=time.monotonic(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "options", [{}, {"speculative": "self"}, {"kv_offload_ram_mb": 16}, {"batching": "dynamic"}],
    ids=str,
)  # fmt: skip
def test_cancelled_in_any_phase(cache, options):
    engine, quiet = make_engine(cache, **options), make_engine(cache)
    (pool,) = engine._scheduler._kv.pools
    rng, number, cancelled = random.Random(5), 0, 0
    live: dict[str, EngineRequest] = {}
    outputs: dict[str, list[int]] = {}
    expected: dict[tuple, list[int]] = {}
    while cancelled < CANCELS or live:
        while cancelled < CANCELS and len(live) < 14 and rng.random() < 0.7:
            number += 1
            one = request(number, rng)
            engine.add_request(one)
            live[one.request_id], outputs[one.request_id] = one, []
        for delta in engine.step():
            name = delta.request_id
            outputs[name] += delta.token_ids
            if delta.finish_reason:
                assert delta.finish_reason in ("length", "stop")
                check(live.pop(name), outputs.pop(name), quiet, expected)
        for name in [n for n in live if rng.random() < 0.06]:
            engine.abort(name)
            del live[name], outputs[name]
            cancelled += 1
        if rng.random() < 0.02:
            for name in list(live):
                engine.abort(name)
                cancelled += 1
            live.clear()
            for _ in range(2):
                engine.step()
            assert pool.num_used == 0 and not engine.has_unfinished()
    assert pool.num_used == 0
    engine.close()
    assert not engine._scheduler._requests and not engine._clock._attribution._accounts


def check(one: EngineRequest, output: list[int], quiet: LLMEngine, expected: dict) -> None:
    """A request that was let be says what it says alone."""
    if one.pooling is not None:
        return
    p = one.params
    key = (len(one.prompt_token_ids), p.temperature, p.seed, p.max_tokens, p.frequency_penalty)
    if key not in expected:
        expected[key] = alone(quiet, one)
    assert output == expected[key]
