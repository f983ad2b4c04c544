"""Backfill in a whole engine: the same tokens as alone, and nobody interactive waits for it."""

import random
import time
from pathlib import Path

import pytest

from engine_support import alone
from sixfold.core.config import EngineConfig
from sixfold.core.errors import ConfigError
from sixfold.core.request import EngineRequest, SamplingParams, Timings
from sixfold.engine.engine import LLMEngine

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


def make_engine(cache: Path, **options) -> LLMEngine:
    settings = {"dtype": "bf16", "num_kv_blocks": 80, "max_model_len": 512, "max_num_seqs": 4,
                "max_num_batched_tokens": 64, "interactive_slowdown": 100.0, **options}  # fmt: skip
    return LLMEngine(EngineConfig(model=str(TINY), cache_dir=str(cache), **settings))


def request(number: int, backfill: bool = False, prompt: int = 0, output: int = 0) -> EngineRequest:
    rng = random.Random(number)
    params = SamplingParams(
        temperature=number % 2 * 0.8, seed=number, max_tokens=output or rng.randint(5, 60),
        ignore_eos=True,
    )  # fmt: skip
    ids = [rng.randint(3, 200) for _ in range(prompt or rng.randint(5, 120))]
    return EngineRequest(
        request_id=f"r{number}", prompt_token_ids=ids, params=params, backfill=backfill,
        arrival_time=time.monotonic(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{}, {"interactive_slowdown": 0.1}, {"speculative": "self"}, {"kv_offload_ram_mb": 16},
     {"num_kv_blocks": 24}, {"batching": "static"}],
    ids=str,
)  # fmt: skip
def test_tokens_are_those_of_requests_alone(cache, options):
    engine, rng = make_engine(cache, **options), random.Random(3)
    requests = [request(number, backfill=number % 3 != 0) for number in range(24)]
    due, found = list(reversed(requests)), {one.request_id: [] for one in requests}
    preempted = 0
    while due or engine.has_unfinished():
        if due and (rng.random() < 0.2 or not engine.has_unfinished()):
            engine.add_request(due.pop())
        for delta in engine.step():
            found[delta.request_id] += delta.token_ids
            if delta.timings is not None:
                preempted += delta.timings.preemptions
                assert sum(delta.timings.parts.values()) > 0
    quiet = make_engine(cache)
    for one in requests:
        assert found[one.request_id] == alone(quiet, one)
    assert engine._scheduler._kv.pools[0].num_used == 0
    stats = engine.stats()
    backfill = [one for one in requests if one.backfill]
    assert stats.backfill_generation_tokens == sum(len(found[o.request_id]) for o in backfill)
    assert stats.backfill_prompt_tokens > 0
    assert stats.num_backfill_running == stats.num_backfill_waiting == 0
    if not options:
        assert preempted > 0, "nobody had to yield"


def test_an_interactive_request_is_in_the_very_next_step(cache):
    engine = make_engine(cache)
    for number in range(6):
        engine.add_request(request(number, backfill=True, prompt=30, output=200))
    for _ in range(10):
        engine.step()
    assert engine.stats().num_backfill_running == 4
    engine.add_request(request(7, prompt=40))
    assert "r7" in {delta.request_id for delta in engine.step() if delta.token_ids}
    stats = engine.stats()
    assert (stats.num_backfill_running, stats.num_backfill_waiting) == (3, 3)


def test_a_preempted_request_goes_on_with_the_same_tokens(cache):
    engine = make_engine(cache, max_num_seqs=1)
    slow = request(1, backfill=True, prompt=50, output=80)
    engine.add_request(slow)
    found: list[int] = []
    for number in range(2, 8):
        for _ in range(7):
            found += [t for d in engine.step() if d.request_id == "r1" for t in d.token_ids]
        engine.add_request(request(number, prompt=40, output=3))
    timings = Timings()
    while engine.has_unfinished():
        for delta in engine.step():
            if delta.request_id == "r1":
                found += delta.token_ids
                timings = delta.timings or timings
    assert timings.preemptions >= 4
    assert found == alone(make_engine(cache), slow)


def test_cancelled_backfill_gives_its_blocks_back(cache):
    engine = make_engine(cache)
    for number in range(6):
        engine.add_request(request(number, backfill=True, prompt=60, output=100))
    for count in range(6):
        engine.step()
        engine.abort(f"r{count}")
    assert engine._scheduler._kv.pools[0].num_used == 0
    assert not engine.has_unfinished()


def test_what_backfill_takes_of_a_request_is_a_part_of_its_own(cache):
    engine = make_engine(cache, max_num_seqs=8)
    for number in range(6):
        engine.add_request(request(number, backfill=True, prompt=60, output=300))
    for _ in range(40):
        engine.step()
    engine.add_request(request(9, prompt=40, output=40))
    ended: dict[str, Timings] = {}
    while "r9" not in ended:
        for delta in engine.step():
            if delta.timings is not None:
                ended[delta.request_id] = delta.timings
    parts = ended["r9"].parts
    assert parts["backfill"] > 0.0
    assert "interference" not in parts, "others' prompts were all of backfill"


@pytest.mark.parametrize("slowdown", [-0.1, float("nan"), 101.0])
def test_a_slowdown_is_a_part(slowdown):
    with pytest.raises(ConfigError, match="interactive_slowdown"):
        EngineConfig(model="any", interactive_slowdown=slowdown)
