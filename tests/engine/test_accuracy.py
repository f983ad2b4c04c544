"""Next-token distributions against transformers in fp32 (tests/golden), model by model."""

import json
from pathlib import Path

import divergence
import numpy as np
import pytest

from sixfold import LLM, SamplingParams
from sixfold.engine.kernels import ops
from sixfold.engine.models.registry import sixfold_home
from sixfold.engine.scoring import Scorer, Variant

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = ("llama", "llama_rope3", "qwen2", "qwen3", "gemma3")
YARDSTICK = json.loads((GOLDEN / "logprobs.json").read_text())


def real_model(name: str) -> Path:
    """A pulled model's .gguf, or skip."""
    found = sorted((sixfold_home() / "models" / name).glob("*.gguf"))
    if not found:
        pytest.skip(f"{name} is not pulled: sixfold pull {name}")
    return found[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


@pytest.mark.parametrize("isa", ops.tiers())
@pytest.mark.parametrize("name", TINY)
def test_f32_agrees_with_transformers(name, isa, cache):
    """The issue's bound is 2e-3; a wrong activation hides below that, so 2e-4 is asked."""
    scorer = Scorer(GOLDEN / "tiny" / name, "f32", cache, isa)
    with np.load(GOLDEN / "logprobs_tiny.npz") as golden:
        for length in (1, 37, 100, 530):
            expected = golden[f"{name}_lp_{length}"]
            ours = scorer.logprobs(golden[f"{name}_ids_{length}"])[-len(expected) :]
            assert np.abs(ours - expected).max() <= 2e-4


@pytest.mark.parametrize("isa", ops.tiers())
@pytest.mark.parametrize("name", TINY)
def test_bf16_is_as_good_as_transformers_bf16(name, isa, cache):
    scorer = Scorer(GOLDEN / "tiny" / name, "bf16", cache, isa)
    divergences = []
    with np.load(GOLDEN / "logprobs_tiny.npz") as golden:
        for length in (1, 37, 100, 530):
            expected = golden[f"{name}_lp_{length}"]
            ours = scorer.logprobs(golden[f"{name}_ids_{length}"])[-len(expected) :]
            divergences.append(divergence.exact_kl(expected, ours))
    assert np.concatenate(divergences).mean() <= 1.2 * YARDSTICK["tiny"][name]["bf16_kl"]


def mean_kl(scorer: Scorer, fixture) -> float:
    """Mean KL(transformers fp32 || ours) over the fixture's positions."""
    windows = [*fixture["tokens"], fixture["long_tokens"]]
    found: dict[int, np.ndarray] = {}
    total = []
    for row, (window, position) in enumerate(fixture["rows"]):
        if window not in found:
            found = {window: scorer.logprobs(windows[window])}
        total.append(divergence.estimated_kl(fixture, row, found[window][position]))
    return float(np.mean(total))


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [
        ("f32", 1e-5),
        ("bf16", 1.2 * YARDSTICK["smollm2"]["bf16_kl"]),
        ("int8", 5e-3),
        ("int4", 5e-3),
    ],
)
def test_smollm2_divergence(dtype, bound, cache):
    """int4 runs the file's own 4-bit codes, so only its int8 activations count."""
    scorer = Scorer(real_model("smollm2-135m"), dtype, cache)
    fixture = dict(np.load(GOLDEN / "logprobs_smollm2.npz"))
    assert mean_kl(scorer, fixture) <= bound


@pytest.mark.parametrize("isa", ["avx2", ""])
def test_an_int8_cache_costs_little(isa, cache):
    """Beside float32 weights, so that nothing else is rounded."""
    scorer = Scorer(real_model("smollm2-135m"), "f32", cache, isa, variant=Variant(kv_dtype="int8"))
    fixture = dict(np.load(GOLDEN / "logprobs_smollm2.npz"))
    assert 1e-6 < mean_kl(scorer, fixture) <= 2e-3


@pytest.mark.parametrize(
    ("dtype", "bound"), [("f32", 1e-5), ("bf16", 1.2 * YARDSTICK["smollm2"]["bf16_kl"])]
)
def test_naive_attention_is_as_good(dtype, bound, cache):
    """It sums in another order: no token for token, but no worse either."""
    variant = Variant(naive_attention=True)
    scorer = Scorer(real_model("smollm2-135m"), dtype, cache, variant=variant)
    assert mean_kl(scorer, dict(np.load(GOLDEN / "logprobs_smollm2.npz"))) <= bound


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [("f32", 1e-5), ("bf16", 1.2 * YARDSTICK["gemma3"]["bf16_kl"]), ("int8", 5e-3)],
)
def test_gemma3_divergence(dtype, bound, cache):
    scorer = Scorer(real_model("gemma3-270m"), dtype, cache)
    fixture = dict(np.load(GOLDEN / "logprobs_gemma3.npz"))
    assert mean_kl(scorer, fixture) <= bound


STORED = 1 / 4096
"""How far a stored log-probability may be from what transformers said."""


@pytest.mark.parametrize("isa", ["generic", ""])
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
def test_real_models_in_f32_are_within_the_bound_everywhere(name, isa, cache):
    """|delta logprob| <= 2e-3 over the stored heads (the 64 likeliest) and tails: of all rows on
    the best tier, of the first window and the long one on the generic."""
    fixture = dict(np.load(GOLDEN / f"logprobs_{name.partition('-')[0]}.npz"))
    windows = [*fixture["tokens"], fixture["long_tokens"]]
    wanted = {0, len(windows) - 1} if isa else set(range(len(windows)))
    rows = [(i, w, p) for i, (w, p) in enumerate(fixture["rows"]) if w in wanted]
    assert {w for _, w, _ in rows} == wanted
    scorer = Scorer(real_model(name), "f32", cache, isa)
    for window in sorted({w for _, w, _ in rows}):
        ours = scorer.logprobs(windows[window])
        for row, _, position in (each for each in rows if each[1] == window):
            for part in ("head", "tail"):
                expected = divergence.unpack(fixture[f"{part}_lp"][row])
                mine = ours[position][fixture[f"{part}_ids"][row].astype(np.intp)]
                assert np.abs(mine - expected).max() <= 2e-3 + STORED, (window, position, part)


@pytest.mark.parametrize("isa", ops.tiers())
def test_every_gguf_type_agrees_with_transformers(isa, cache):
    """One file with all eleven block formats, computed in f32 from what they dequantise to."""
    scorer = Scorer(GOLDEN / "tiny_gguf" / "tiny-llama.gguf", "f32", cache, isa)
    with np.load(GOLDEN / "tiny_gguf" / "logprobs.npz") as golden:
        for length in (1, 37, 100):
            expected = golden[f"lp_{length}"]
            ours = scorer.logprobs(golden[f"ids_{length}"])[-len(expected) :]
            assert np.abs(ours - expected).max() <= 2e-4


def test_greedy_text_is_that_of_transformers_in_bf16_up_to_a_tie():
    """A tie: transformers' own two best logits lie within one step of bf16 at their size (16-32).

    After a tie the texts differ with reason, so the rest is not compared.
    """
    llm = LLM(str(real_model("smollm2-135m")), dtype="bf16")
    same = 0
    for case in json.loads((GOLDEN / "greedy_smollm2.json").read_text()):
        params = SamplingParams(temperature=0, max_tokens=len(case["ids"]), ignore_eos=True)
        ours = llm.generate([case["prompt_ids"]], params)[0].outputs[0].token_ids
        places = range(len(case["ids"]))
        at = next((i for i in places if ours[i] != case["ids"][i]), None)
        same += at is None
        if at is not None:
            assert ours[at] == case["second"][at] and case["gap"][at] <= 0.125, (at, case["prompt"])
    assert same >= 4, "most texts have no tie"
