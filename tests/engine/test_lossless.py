"""Every lossless technique, and every pair of them: the same greedy tokens on and off.

`make test` takes a few hundred tokens of a tiny model; SIXFOLD_LOSSLESS_MODEL and
SIXFOLD_LOSSLESS_TOKENS name the real one and 100,000 tokens, SIXFOLD_PAIR_TOKENS 10,000 for pairs.
"""

import itertools
import os
import random
from pathlib import Path

import pytest

from sixfold import LLM, SamplingParams
from sixfold.engine.models.registry import sixfold_home

TINY = str(Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf")
MODEL = os.environ.get("SIXFOLD_LOSSLESS_MODEL", TINY)
TOKENS = int(os.environ.get("SIXFOLD_LOSSLESS_TOKENS", "600"))
PAIR_TOKENS = int(os.environ.get("SIXFOLD_PAIR_TOKENS", "200"))
OUTPUT = 100

TECHNIQUES: dict[str, dict[str, object]] = {
    "no prefix caching": {"enable_prefix_caching": False},
    "chunked prefill": {"max_num_batched_tokens": 48, "max_num_seqs": 16},
    "static batching": {"batching": "static", "max_num_seqs": 8},
    "dynamic batching": {"batching": "dynamic", "max_num_seqs": 8, "max_batch_delay_ms": 2},
    "contiguous cache": {"kv_cache": "contiguous", "kv_cache_memory_mb": 512},
    "few blocks": {"num_kv_blocks": 60},
    "one thread": {"num_threads": 1},
    "n-gram drafts": {"speculative": "ngram"},
    "suffix drafts": {"speculative": "suffix"},
    "self drafts": {"speculative": "self"},
    "draft model": {"speculative": f"draft={TINY}"},
    "offload to disk": {"kv_offload_dir": "DIR", "num_kv_blocks": 60},
    "offload to memory": {"kv_offload_ram_mb": 256, "num_kv_blocks": 60},
}
if MODEL != TINY:
    del TECHNIQUES["draft model"]


def excluded(a: dict[str, object], b: dict[str, object]) -> bool:
    """Pairs that set the same switch, or can't be had together."""
    both = a | b
    if any(name in b and a[name] != b[name] for name in a):
        return True
    offloads = "kv_offload_dir" in both or "kv_offload_ram_mb" in both
    shares = both.get("enable_prefix_caching", True) and both.get("kv_cache") != "contiguous"
    few = both.get("kv_cache") == "contiguous" and "num_kv_blocks" in both
    return (offloads and not shares) or few


def prompts(count: int) -> list[list[int]]:
    """Of 10 to 250 tokens, half behind a shared beginning, some that repeat themselves."""
    rng = random.Random(11)
    shared = [rng.randrange(3, 250) for _ in range(100)]
    found = []
    for i in range(count):
        own = [rng.randrange(3, 250) for _ in range(rng.choice([10, 40, 75]))]
        found.append((shared if i % 2 else []) + own * (2 if i % 3 == 0 else 1))
    return found


def tokens(cache: Path, options: dict[str, object], count: int) -> list[list[int]]:
    """Greedy outputs, in the order of the prompts; the same prompts come in two waves."""
    settings = {"max_model_len": 512, "kv_cache_memory_mb": 256, "dtype": "bf16", **options}
    llm = LLM(MODEL, cache_dir=str(cache), **settings)
    if llm.engine._offloader is not None:
        llm.engine._offloader.policy.pays = lambda: True
    some = prompts(-(-count // OUTPUT // 2))
    greedy = SamplingParams(temperature=0, max_tokens=OUTPUT, ignore_eos=True)
    found = [o.outputs[0].token_ids for _ in range(2) for o in llm.generate(some, greedy)]
    llm.engine.close()
    return found


def named(options: dict[str, object], directory: Path) -> dict[str, object]:
    return {k: str(directory) if v == "DIR" else v for k, v in options.items()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed") if MODEL == TINY else sixfold_home()


@pytest.fixture(scope="module")
def plain(cache):
    known: dict[int, list[list[int]]] = {}

    def expected(count: int) -> list[list[int]]:
        if count not in known:
            known[count] = tokens(cache, {}, count)
        return known[count]

    return expected


@pytest.mark.parametrize("name", TECHNIQUES)
def test_each_alone(cache, plain, tmp_path, name):
    found = tokens(cache, named(TECHNIQUES[name], tmp_path), TOKENS)
    assert sum(map(len, found)) >= TOKENS
    assert found == plain(TOKENS)


PAIRS = [
    pair for pair in itertools.combinations(TECHNIQUES, 2)
    if not excluded(TECHNIQUES[pair[0]], TECHNIQUES[pair[1]])
]  # fmt: skip


@pytest.mark.skipif(MODEL != TINY, reason="pairs are for the tiny model")
@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_each_pair(cache, plain, tmp_path, pair):
    both = TECHNIQUES[pair[0]] | TECHNIQUES[pair[1]]
    assert tokens(cache, named(both, tmp_path), PAIR_TOKENS) == plain(PAIR_TOKENS)
