"""Batch invariance: a request's tokens never depend on what ran beside it, or how it was cut.

Each configuration below is a strategy on against off; all must give equal tokens. `make test`
runs a quick cut, `make test-all` the 64 prompts of the target, in every ISA tier.
"""

import random
from pathlib import Path

import pytest

from sixfold import LLM, SamplingParams
from sixfold.engine.kernels import ops
from sixfold.engine.models.registry import sixfold_home

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
SYSTEM = "You are a helpful assistant who answers in one short paragraph. "
WORDS = ("river", "stone", "lantern", "market", "winter", "engine", "copper", "violin")

CONFIGS = {
    "all at once": {},
    "chunks of 7": {"max_num_batched_tokens": 7},
    "chunks of 61": {"max_num_batched_tokens": 61},
    "chunks of a random size each": {"random_budgets": True},
    "one thread": {"num_threads": 1},
    "two threads": {"num_threads": 2},
    "no prefix cache": {"enable_prefix_caching": False},
    "static batching": {"batching": "static", "max_num_seqs": 8},
    "dynamic batching": {"batching": "dynamic", "max_num_seqs": 8, "max_batch_delay_ms": 5},
    "contiguous cache": {"kv_cache": "contiguous"},
    "speculation": {"speculative": "suffix"},
    "forced preemption": {"preempt_every": 3},
}


def mixed_prompts(count: int) -> list[str]:
    """Prompts of 5 to 600 tokens, half of them behind a shared beginning."""
    rng = random.Random(7)
    prompts = []
    for i in range(count):
        words = " ".join(rng.choice(WORDS) for _ in range(rng.choice([2, 9, 40, 130])))
        prompts.append((SYSTEM * 8 if i % 2 else "") + f"Tell me about {words} {i}.")
    return prompts


def sampling(kind: str, count: int, max_tokens: int) -> list[SamplingParams]:
    if kind == "greedy":
        return [SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)] * count
    return [
        SamplingParams(
            temperature=0.9, top_p=0.9, top_k=50, seed=i, max_tokens=max_tokens,
            frequency_penalty=0.3, repetition_penalty=1.1, ignore_eos=True,
        )
        for i in range(count)
    ]  # fmt: skip


def preempt_while_running(llm: LLM, every: int) -> None:
    """Send a random request back to the queue after every few steps."""
    step, rng, count = llm.engine.step, random.Random(1), 0

    def disturbed():
        nonlocal count
        deltas = step()
        count += 1
        if count % every == 0 and llm.engine._live:
            llm.engine._scheduler.preempt(rng.choice(list(llm.engine._live)))
        return deltas

    llm.engine.step = disturbed


def cut_at_random(llm: LLM) -> None:
    """Give every step another token budget, never fewer than decode at once."""
    step, rng, scheduler = llm.engine.step, random.Random(2), llm.engine._scheduler
    whole = scheduler._config
    least = min(whole.max_num_seqs, whole.max_num_batched_tokens)

    def cut():
        most = min(whole.max_num_batched_tokens, least + 90)
        budget = rng.randint(least, most)
        scheduler._planner._budget = budget
        return step()

    llm.engine.step = cut


def tokens(
    model: str,
    prompts,
    params,
    alone: bool = False,
    preempt_every: int = 0,
    random_budgets: bool = False,
    **options,
) -> list[list[int]]:
    llm = LLM(model, max_model_len=768, **{"kv_cache_memory_mb": 256, **options})
    ids = [p if isinstance(p, list) else llm.engine.tokenizer.encode(p)[:640] for p in prompts]
    if random_budgets:
        cut_at_random(llm)
    if preempt_every:
        preempt_while_running(llm, preempt_every)
    if alone:
        outputs = [llm.generate([i], p)[0] for i, p in zip(ids, params, strict=True)]
    else:
        outputs = llm.generate(ids, params)
    if preempt_every:
        assert llm.engine.stats().num_preemptions > 0
    return [o.outputs[0].token_ids for o in outputs]


def check(model: str, kind: str, count: int, max_tokens: int, prompts=None, **options) -> None:
    prompts = prompts or mixed_prompts(count)
    params = sampling(kind, count, max_tokens)
    expected = tokens(model, prompts, params, alone=True, **options)
    for name, config in CONFIGS.items():
        assert tokens(model, prompts, params, **options, **config) == expected, name


@pytest.fixture(scope="module")
def smollm2() -> str:
    if not (sixfold_home() / "models" / "smollm2-135m").exists():
        pytest.skip("smollm2-135m is not pulled: sixfold pull smollm2-135m")
    return "smollm2-135m"


@pytest.mark.parametrize("kind", ["greedy", "seeded"])
@pytest.mark.parametrize("isa", ops.tiers())
def test_tiny_model(kind, isa):
    check(str(TINY), kind, 16, 12, isa=isa, dtype="int8")


@pytest.mark.parametrize("isa", ops.tiers())
def test_sliding_windows(isa, gemma):
    rng = random.Random(5)
    shared = [rng.randrange(3, 250) for _ in range(130)]
    lengths = [rng.choice([5, 40, 200, 400]) for _ in range(10)]
    prompts = [
        (shared if i % 2 else []) + [rng.randrange(3, 250) for _ in range(length)]
        for i, length in enumerate(lengths)
    ]
    check(gemma, "greedy", 10, 12, prompts=prompts, isa=isa, dtype="int8")


@pytest.mark.parametrize("isa", ops.tiers())
@pytest.mark.parametrize("kv_cache_dtype", ["auto", "int8"])
def test_long_shared_prefixes(isa, kv_cache_dtype):
    """Decodes stacked over the partial of 512 keys that they share, beside some that are not."""
    rng = random.Random(6)
    shared = [rng.randrange(3, 250) for _ in range(560)]
    prompts = [
        (shared if i % 3 else []) + [rng.randrange(3, 250) for _ in range(3 + 5 * i)]
        for i in range(9)
    ]
    options = {"isa": isa, "dtype": "int8", "kv_cache_dtype": kv_cache_dtype}
    check(str(TINY), "greedy", 9, 12, prompts=prompts, **options)


@pytest.mark.parametrize("dtype", ["int4", "bf16"])
def test_real_model_quick(dtype, smollm2):
    check(smollm2, "greedy", 10, 8, dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["greedy", "seeded"])
@pytest.mark.parametrize("dtype", ["int4", "int8", "bf16", "f32"])
@pytest.mark.parametrize("isa", ops.tiers())
def test_real_model_64_prompts(kind, dtype, isa, smollm2):
    check(smollm2, kind, 64, 24, dtype=dtype, isa=isa)
