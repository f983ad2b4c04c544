"""Offloaded blocks: the same tokens with them and without, after restarts and on broken disks."""

import subprocess
import sys
from pathlib import Path

import pytest

from sixfold import LLM, SamplingParams
from sixfold.core.errors import ConfigError

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
BASE = [(i * 37) % 200 + 3 for i in range(400)]


def build(cache, **options) -> LLM:
    settings = {"dtype": "bf16", "num_kv_blocks": 20, "max_model_len": 512, **options}
    return LLM(str(TINY), cache_dir=str(cache), **settings)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


def prompts() -> list[list[int]]:
    """More prefixes than the arena holds, each asked for twice."""
    own = [BASE[i * 7 :][:200] + [i] * 20 for i in range(8)]
    return own + [prompt + [77] * 5 for prompt in own]


def answers(llm: LLM) -> list[list[int]]:
    found = []
    for prompt in prompts():
        found.append(llm.generate([prompt], GREEDY)[0].outputs[0].token_ids)
        if llm.engine._offloader is not None and llm.engine._offloader.ram is not None:
            llm.engine._offloader.ram.flush()
    return found


@pytest.fixture(scope="module")
def expected(cache):
    return answers(build(cache, enable_prefix_caching=False))


@pytest.mark.parametrize("kind", ["disk", "ram", "both"])
def test_tokens_are_the_same_and_blocks_come_back(cache, expected, tmp_path, kind):
    disk = {"kv_offload_dir": str(tmp_path)} if kind != "ram" else {}
    ram = {"kv_offload_ram_mb": 64} if kind != "disk" else {}
    llm = build(cache, **disk, **ram)
    always(llm)
    assert answers(llm) == expected
    assert llm.engine._offloader.counts.loaded > 30
    llm.engine.close()


def always(llm: LLM) -> None:
    """Loading pays: a tiny model computes faster than any disk."""
    llm.engine._offloader.policy.pays = lambda: True


def test_all_at_once_beside_speculation_and_chunks(cache, expected, tmp_path):
    for options in ({"max_num_batched_tokens": 40}, {"speculative": "suffix"}):
        llm = build(cache, kv_offload_dir=str(tmp_path), **options)
        always(llm)
        for _ in range(2):
            outputs = llm.generate(prompts(), GREEDY)
            assert [o.outputs[0].token_ids for o in outputs] == expected
        assert llm.engine._offloader.counts.loaded > 0
        llm.engine.close()


def test_a_restarted_engine_finds_its_blocks(cache, expected, tmp_path):
    first = build(cache, kv_offload_dir=str(tmp_path))
    answers(first)
    first.engine.close()
    second = build(cache, kv_offload_dir=str(tmp_path))
    always(second)
    output = second.generate([prompts()[0]], GREEDY)[0].outputs[0]
    assert output.token_ids == expected[0] and output.timings.cached_tokens == 192
    assert output.timings.parts["offload"] > 0
    second.engine.close()


@pytest.mark.parametrize("other", [{"dtype": "int8"}, {"kv_cache_dtype": "int8"}, {"isa": "avx2"}])
def test_blocks_of_other_numerics_are_not_taken(cache, tmp_path, other):
    first = build(cache, kv_offload_dir=str(tmp_path))
    answers(first)
    first.engine.close()
    second = build(cache, kv_offload_dir=str(tmp_path), **other)
    always(second)
    assert answers(second) == answers(build(cache, enable_prefix_caching=False, **other))
    second.engine.close()


def test_broken_blocks_are_computed_again(cache, expected, tmp_path):
    first = build(cache, kv_offload_dir=str(tmp_path))
    answers(first)
    first.engine.close()
    for path in tmp_path.glob("*/*.kv"):
        data = bytearray(path.read_bytes())
        for place in range(3000, len(data), 9973):  # most payloads
            data[place] ^= 4
        path.write_bytes(data)
    second = build(cache, kv_offload_dir=str(tmp_path))
    always(second)
    found = [second.generate([p], GREEDY)[0].outputs[0] for p in prompts()]
    assert [output.token_ids for output in found] == expected
    counts = second.engine._offloader.counts
    assert counts.failed > 0
    stats = second.engine.stats()
    assert 0 <= stats.prefix_cache_hits <= stats.prefix_cache_queries
    assert not second.engine._scheduler._requests
    (pool,) = second.engine._scheduler._kv.pools
    assert pool.num_used == 0
    second.engine.close()


def test_a_lost_block_takes_back_all_who_began_with_it(cache, expected, tmp_path):
    """Two requests of one prefix in one step: the second counts on what the first one loads."""
    first = build(cache, kv_offload_dir=str(tmp_path))
    answers(first)
    first.engine.close()
    second = build(cache, kv_offload_dir=str(tmp_path), max_num_batched_tokens=512)
    always(second)
    disk, count = second.engine._offloader.disk, 0
    read = disk.read

    def failing(key):
        nonlocal count
        count += 1
        if count == 3:
            disk._index.pop(key.digest)
            return None
        return read(key)

    disk.read = failing
    pair = [prompts()[0], prompts()[8]]
    outputs = second.generate(pair, GREEDY)
    assert [o.outputs[0].token_ids for o in outputs] == [expected[0], expected[8]]
    assert second.engine._offloader.counts.failed == 1
    second.engine.close()


def test_a_process_that_ends_without_a_word_has_its_blocks_written(cache, expected, tmp_path):
    script = (
        "import sys; from sixfold import LLM, SamplingParams; "
        "llm = LLM(sys.argv[1], cache_dir=sys.argv[2], kv_offload_dir=sys.argv[3], dtype='bf16', "
        "num_kv_blocks=20, max_model_len=512, kv_offload_ram_mb=8); "
        "prompt = [int(i) for i in sys.argv[4].split()]; "
        "llm.generate([prompt], SamplingParams(temperature=0, max_tokens=2))"
    )
    prompt = " ".join(map(str, prompts()[0]))
    command = [sys.executable, "-c", script, str(TINY), str(cache), str(tmp_path), prompt]
    subprocess.run(command, check=True, timeout=60)
    llm = build(cache, kv_offload_dir=str(tmp_path))
    always(llm)
    output = llm.generate([prompts()[0]], GREEDY)[0].outputs[0]
    assert output.token_ids == expected[0] and output.timings.cached_tokens == 192
    llm.engine.close()


def test_a_reset_forgets_all_of_them(cache, tmp_path):
    llm = build(cache, kv_offload_dir=str(tmp_path), kv_offload_ram_mb=64)
    always(llm)
    answers(llm)
    llm.engine._offloader.disk.flush()
    assert llm.engine.stats().offload_written > 0
    assert llm.engine.reset_prefix_cache()
    output = llm.generate([prompts()[0]], GREEDY)[0].outputs[0]
    assert output.timings.cached_tokens == 0
    llm.engine.close()


@pytest.mark.parametrize("kind", ["disk", "ram"])
def test_what_can_not_be_loaded_is_not_asked_for_for_ever(cache, expected, tmp_path, kind):
    """Whatever the reason: another block under its digest, or one of another size."""
    disk = {"kv_offload_dir": str(tmp_path)} if kind == "disk" else {"kv_offload_ram_mb": 64}
    llm = build(cache, **disk)
    always(llm)
    found = answers(llm)[:8]
    tier = getattr(llm.engine._offloader, kind)
    tier.flush()
    tier.read = lambda key: b"too short"
    steps = llm.engine.stats().num_steps
    again = [llm.generate([p], GREEDY)[0].outputs[0].token_ids for p in prompts()[:8]]
    assert found == again == expected[:8]
    assert llm.engine._offloader.counts.failed > 0
    assert llm.engine.stats().num_steps - steps < 8 * 60
    llm.engine.close()


def test_loading_is_done_only_where_it_is_faster():
    from sixfold.engine.offload.policy import EXPLORE, LoadPolicy

    policy = LoadPolicy()
    assert policy.pays(), "nothing is known: try"
    for _ in range(30):
        policy.loaded(10, 0.1)
        policy.computed(10, 0.05)
    assert [policy.pays() for _ in range(EXPLORE)].count(True) == 1, "tried again now and then"
    for _ in range(30):
        policy.loaded(10, 0.01)
    assert policy.pays()


def test_what_can_not_be_offloaded_says_so(cache, gemma, tmp_path):
    for options, words in (
        ({"executor": "reference"}, "native"), ({"enable_prefix_caching": False}, "prefixes"),
        ({"kv_cache": "contiguous"}, "prefixes"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            build(cache, kv_offload_dir=str(tmp_path), **options)
    with pytest.raises(ConfigError, match="sliding windows"):
        LLM(gemma, cache_dir=str(cache), kv_offload_ram_mb=8, kv_cache_memory_mb=16)
