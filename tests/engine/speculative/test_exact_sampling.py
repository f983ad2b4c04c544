"""Speculation under sampling against the exact distribution: chi-square over whole outputs.

A model without layers: what comes next depends on the last token alone, so that the distribution of
three tokens can be written down, penalties included. The first is sampled as always; the others
are drafted, right or wrong, kept or put in place of a wrong one. `make test-all` draws a million.
"""

import itertools
import os
from collections import Counter

import numpy as np
import pytest

from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.kernels import ops, packing
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.kernels.reference import DenseWeight
from sixfold.engine.kernels.reference_sampler import SampleParams, adjust
from sixfold.engine.runner.model_runner import ModelRunner, RequestView
from sixfold.engine.runner.sampling_batch import SamplingBatch
from sixfold.engine.runner.step_input import StepInputBuilder
from sixfold.engine.scheduler.output import ScheduledChunk

DRAWS = int(os.environ.get("SIXFOLD_DRAWS", "12000"))
VOCABULARY, SLOTS, FIRST = 32, 64, 5
USED = 6
"""Tokens that are at all likely."""
LENGTH = 4
KINDS = {
    "plain": {},
    "hot": {"temperature": 1.7},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.2, "temperature": 1.3},
    "repetition": {"repetition_penalty": 1.5},
    "presence, frequency": {"presence_penalty": 0.7, "frequency_penalty": 0.4},
    "all": {"temperature": 0.8, "top_k": 5, "top_p": 0.9, "min_p": 0.02,
            "frequency_penalty": 0.3, "repetition_penalty": 1.2},
    "bias": {"logit_bias": {0: 1.0, 3: -1.0}},
}  # fmt: skip


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    """[last token, next token]."""
    found = np.full((VOCABULARY, VOCABULARY), -100.0, np.float32)
    found[:, :USED] = np.random.default_rng(3).normal(0, 1.2, (VOCABULARY, USED))
    return found


@pytest.fixture(scope="module")
def model(logits) -> ops.NativeModel:
    """Says exactly these."""
    b = ProgramBuilder()
    b.begin_layer()
    x = b.embed("x", VOCABULARY)
    b.logits(x, "norm", 1e-12, "head", VOCABULARY)
    one_hot = np.eye(VOCABULARY, dtype=np.float32)
    head = np.ascontiguousarray(logits.T) / np.float32(np.sqrt(VOCABULARY))
    weights = {
        "x": packing.PackedWeight("f32", *one_hot.shape, packing.pack_f32(one_hot)),
        "head": packing.PackedWeight("f32", *head.shape, packing.pack_f32(head)),
        "norm": DenseWeight(np.ones(VOCABULARY, np.float32)),
    }
    options = ops.NativeOptions(ops.tiers()[-1], 1, SLOTS * LENGTH, 64)
    return ops.NativeModel(b.build(), weights, [], "f32", options)


def exact(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Probability of each output of LENGTH tokens."""
    found = np.zeros([USED] * LENGTH)
    for output in itertools.product(range(USED), repeat=LENGTH):
        chance = 1.0
        for i, token in enumerate(output):
            last = output[i - 1] if i else FIRST
            chance *= distribution(logits[last], params, output[:i])[token]
        found[output] = chance
    return found


def distribution(row: np.ndarray, p: SamplingParams, output: tuple[int, ...]) -> np.ndarray:
    """Of the next token, by the definitions of the parameters."""
    x = adjust(row, SampleParams(
        repetition_penalty=p.repetition_penalty, frequency_penalty=p.frequency_penalty,
        presence_penalty=p.presence_penalty, bias=tuple(p.logit_bias.items()),
        prompt_ids=(FIRST,), output_ids=output,
    )).astype(np.float64)  # fmt: skip
    weights = np.exp((x - x.max()) / p.temperature)
    weights[weights < p.min_p] = 0.0
    order = np.argsort(-weights, kind="stable")
    if p.top_k > 0:
        weights[order[p.top_k :]] = 0.0
    mass = np.cumsum(weights[order]) / weights.sum()
    weights[order[1:][mass[:-1] >= p.top_p]] = 0.0
    return weights / weights.sum()


def outputs(
    model: ops.NativeModel, params: SamplingParams, rng, seeds: range, kept: Counter
) -> list[tuple]:
    """One output per seed; counts how many tokens each checked draft gave."""
    sampling = SamplingBatch(SLOTS, [], 0)
    runner = ModelRunner(model, StepInputBuilder(0, SLOTS, 64), sampling, None)
    requests = {
        str(slot): EngineRequest(
            request_id=str(seed), prompt_token_ids=[FIRST],
            params=SamplingParams(**{**PLAIN, "seed": seed, **shown(params)}),
        )
        for slot, seed in enumerate(seeds)
    }  # fmt: skip
    found: dict[str, list[int]] = {name: [] for name in requests}
    while any(len(output) < LENGTH for output in found.values()):
        chunks = []
        for name, output in found.items():
            left = LENGTH - len(output)
            if left:
                drafts = rng.integers(0, USED, left - 1).tolist() if output else []
                last = output[-1] if output else FIRST
                chunks.append(
                    ScheduledChunk(name, int(name), len(output), [last, *drafts], True, (),
                                   num_drafted=len(drafts))
                )  # fmt: skip
        result = runner.execute(chunks, lambda name: RequestView(requests[name], found[name]))
        for chunk in chunks:
            if chunk.num_drafted == LENGTH - 2:
                kept[len(result.sampled[chunk.request_id])] += 1
        for name, tokens in result.sampled.items():
            found[name] = found[name] + [token.token_id for token in tokens]
    return [tuple(output) for output in found.values()]


PLAIN = {"temperature": 1.0, "max_tokens": LENGTH}


def shown(params: SamplingParams) -> dict:
    return {name: getattr(params, name) for name in (
        "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
        "frequency_penalty", "logit_bias")}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_follow_the_exact_distribution(model, logits, kind):
    params = SamplingParams(**{**PLAIN, **KINDS[kind]})
    expected = exact(logits, params)
    assert expected.sum() == pytest.approx(1.0)
    rng, counts, kept = np.random.default_rng(1), np.zeros_like(expected), Counter()
    runs = -(-DRAWS // LENGTH // SLOTS)
    for run in range(runs):
        seeds = range(run * SLOTS, (run + 1) * SLOTS)
        for output in outputs(model, params, rng, seeds, kept):
            counts[output] += 1
    total = runs * SLOTS
    assert not counts[expected == 0].any(), "what cannot be was said"
    # Rare outputs are judged together.
    often = expected * total >= 8
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum()) * total
    some = wanted > 0
    statistic = float(((observed - wanted)[some] ** 2 / wanted[some]).sum())
    freedom = int(some.sum()) - 1
    # Mean and 4 standard deviations of a chi-square variable.
    # A wrong draft's place was taken by another token, a right one's followed by one more.
    assert kept[1] > 0 and kept[2] > 0
    assert statistic < freedom + 4 * np.sqrt(2 * freedom), (statistic, freedom)
