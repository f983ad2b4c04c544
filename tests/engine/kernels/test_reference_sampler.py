"""The native sampler against its NumPy twin (the same token, always) and against the maths."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sixfold.engine.kernels import reference_sampler as twin
from sixfold.engine.kernels.reference_sampler import SampleParams

QUICK = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-42, 3.4e38, -3.4e38, 88.8, -1e4]


def make_logits(seed: int, vocab: int, shape: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = {
        "normal": lambda: rng.normal(0, 3, vocab),
        "flat": lambda: rng.normal(0, 1e-3, vocab),
        "equal": lambda: np.full(vocab, rng.normal()),
        "tied": lambda: np.round(rng.normal(0, 2, vocab)),
        "peaked": lambda: rng.normal(0, 40, vocab),
        "huge": lambda: rng.normal(0, 1e30, vocab),
        "special": lambda: rng.choice(SPECIAL, vocab),
        "holes": lambda: np.where(rng.random(vocab) < 0.7, -np.inf, rng.normal(0, 3, vocab)),
    }[shape]()
    return x.astype(np.float32)


SHAPES = ["normal", "flat", "equal", "tied", "peaked", "huge", "special", "holes"]
logits = st.one_of(
    st.builds(
        make_logits,
        st.integers(0, 2**32),
        st.one_of(st.integers(1, 70), st.integers(900, 5000)),
        st.sampled_from(SHAPES),
    ),
    st.lists(st.floats(width=32), min_size=1, max_size=40).map(
        lambda values: np.asarray(values, dtype=np.float32)
    ),
)
ids = st.lists(st.integers(-2, 80), max_size=30)
params = st.builds(
    SampleParams,
    seed=st.integers(-(2**63), 2**63 - 1),
    position=st.integers(0, 2**40),
    temperature=st.one_of(
        st.just(0.0), st.sampled_from([1.0, 1e-6, 1e-40, 100.0]), st.floats(0.05, 3.0)
    ),
    top_p=st.one_of(st.just(1.0), st.floats(1e-9, 1.0)),
    min_p=st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0)),
    repetition_penalty=st.one_of(st.just(1.0), st.floats(1e-3, 100.0)),
    frequency_penalty=st.one_of(st.just(0.0), st.floats(-2.0, 2.0)),
    presence_penalty=st.one_of(st.just(0.0), st.floats(-2.0, 2.0)),
    top_k=st.one_of(st.just(0), st.sampled_from([-1, 1, 2**31 - 1]), st.integers(1, 100)),
    num_logprobs=st.one_of(st.just(-1), st.integers(0, 64)),
    bias=st.lists(st.tuples(st.integers(-1, 80), st.floats(-100, 100)), max_size=5),
    banned_ids=ids,
    prompt_ids=ids,
    output_ids=ids,
)


@QUICK
@given(x=logits, p=params)
@example(x=np.full(9, np.nan, np.float32), p=SampleParams(num_logprobs=3))
@example(x=np.full(9, np.inf, np.float32), p=SampleParams(temperature=0.0, num_logprobs=3))
@example(x=np.zeros(3000, np.float32), p=SampleParams(top_p=0.5, top_k=2000))
def test_native_equals_twin(native_sampler, x, p):
    got, want = native_sampler.sample_row(x, p), twin.sample_row(x, p)
    assert (got.token, got.ok, got.rank) == (want.token, want.ok, want.rank)
    assert got.top_ids == want.top_ids
    for a, b in zip(
        (got.logprob, *got.top_logprobs), (want.logprob, *want.top_logprobs), strict=True
    ):
        assert a == pytest.approx(b, rel=2e-6, abs=2e-5)


@QUICK
@given(x=logits, p=params)
def test_the_token_is_allowed(native_sampler, x, p):
    """Whatever is asked, the token is in the vocabulary, not banned, and among the top k."""
    result = native_sampler.sample_row(x, p)
    assert 0 <= result.token < len(x)
    if not result.ok:
        return
    adjusted = twin.adjust(twin.clean(x), p)
    assert adjusted[result.token] > -np.inf
    better = int((adjusted > adjusted[result.token]).sum())
    if p.temperature == 0 or p.min_p == 1:
        assert better == 0
    if p.top_k > 0:
        assert better < p.top_k


@QUICK
@given(x=logits, token=st.integers(0, 10**6), k=st.integers(0, 64))
def test_logprobs_of_a_given_token(native_sampler, x, token, k):
    token %= len(x)
    got, want = native_sampler.logprobs_row(x, token, k), twin.logprobs_row(x, token, k)
    assert (got.token, got.rank, got.top_ids) == (token, want.rank, want.top_ids)
    assert got.logprob == pytest.approx(want.logprob, rel=2e-6, abs=2e-5)
    if k >= want.rank:
        assert got.top_ids[want.rank - 1] == token


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        ((0, 0), 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            (2**64 - 1, 2**64 - 1),
            2**64 - 1,
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            (0x85A308D3243F6A88, 0x0370734413198A2E),
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(native_sampler, counter, key, want):
    """Vectors of the Random123 distribution (kat_vectors, philox4x32 10)."""
    assert native_sampler.philox(key, *counter) == want
    assert list(twin.philox(key, counter[0] | counter[1] << 64)) == want


def plain_probabilities(x: np.ndarray, p: SampleParams) -> np.ndarray:
    """What the draw must follow, by the textbook in float64: softmax, min_p, top_k, top_p."""
    probability = np.exp((x - x.max()) / p.temperature, dtype=np.float64)
    probability /= probability.sum()
    probability[probability < p.min_p * probability.max()] = 0
    order = np.argsort(-probability, kind="stable")
    if p.top_k > 0:
        probability[order[p.top_k :]] = 0
    probability /= probability.sum()
    before = np.cumsum(probability[order]) - probability[order]
    probability[order[before >= p.top_p]] = 0
    return probability / probability.sum()


@pytest.mark.parametrize(
    "p",
    [
        SampleParams(),
        SampleParams(temperature=0.5),
        SampleParams(temperature=2.0, top_k=7),
        SampleParams(top_p=0.8),
        SampleParams(min_p=0.1),
        SampleParams(temperature=1.5, top_k=12, top_p=0.9, min_p=0.02),
    ],
    ids=["plain", "cold", "top_k", "top_p", "min_p", "all"],
)
def test_draws_follow_the_distribution(native_sampler, p):
    """Chi-square over 6000 positions of one seed; the statistic is a constant of the code."""
    x = np.random.default_rng(5).normal(0, 2, 40).astype(np.float32)
    draws = 6000
    counts = np.zeros(40)
    for position in range(draws):
        step = SampleParams(11, position, p.temperature, p.top_p, p.min_p, top_k=p.top_k)
        counts[native_sampler.sample_row(x, step).token] += 1
    want = plain_probabilities(x, p) * draws
    assert np.all(counts[want == 0] == 0)
    common = want >= 5
    statistic = float((((counts - want) ** 2)[common] / want[common]).sum())
    freedom = int(common.sum()) - 1
    # mean + 4 standard deviations of a chi-square variable
    assert statistic < freedom + 4 * math.sqrt(2 * max(freedom, 1))


def test_bans_bias_and_penalties_act(native_sampler):
    x = np.asarray([1.0, 5.0, 4.0, -2.0], np.float32)

    def greedy(**changes):
        return native_sampler.sample_row(x, SampleParams(temperature=0.0, **changes)).token

    assert greedy() == 1
    assert greedy(banned_ids=[1]) == 2
    assert greedy(banned_ids=[1, 2], bias=[(3, 100.0)]) == 3
    assert greedy(prompt_ids=[1], repetition_penalty=2.0) == 2
    assert greedy(prompt_ids=[1], frequency_penalty=2.0) == 1, "the prompt does not count"
    assert greedy(output_ids=[1], frequency_penalty=0.9) == 1
    assert greedy(output_ids=[1, 1], frequency_penalty=0.9) == 2
    assert greedy(output_ids=[1], presence_penalty=1.5) == 2
    assert greedy(output_ids=[1] * 9, presence_penalty=0.9) == 1, "presence counts once"


def test_logprobs_are_of_the_untouched_logits(native_sampler):
    x = np.asarray([1.0, 5.0, 4.0, -2.0], np.float32)
    p = SampleParams(temperature=0.0, banned_ids=[1], bias=[(0, 50.0)], num_logprobs=2)
    result = native_sampler.sample_row(x, p)
    total = math.log(np.exp(x.astype(np.float64)).sum())
    assert (result.token, result.rank, result.top_ids) == (0, 3, (1, 2))
    assert result.logprob == pytest.approx(1.0 - total, abs=1e-6)
    assert result.top_logprobs == pytest.approx((5.0 - total, 4.0 - total), abs=1e-6)


def test_seed_and_position_decide_alone(native_sampler):
    """Same request, same token, whatever else was sampled before with the same scratch."""
    x = make_logits(3, 3000, "normal")
    tokens = [
        native_sampler.sample_row(x, SampleParams(seed=s, position=i)).token
        for s in (1, 2)
        for i in range(20)
    ]
    again = [
        native_sampler.sample_row(x, SampleParams(seed=s, position=i)).token
        for i in range(20)
        for s in (1, 2)
    ]
    assert sorted(tokens) == sorted(again) and tokens[:20] == again[::2]
    assert tokens[:20] != tokens[20:]


@pytest.mark.parametrize("shape", ["normal", "flat", "equal"])
@pytest.mark.parametrize("vocab", [49152, 262144])
def test_large_vocabularies(native_sampler, vocab, shape):
    x = make_logits(1, vocab, shape)
    for p in (
        SampleParams(seed=4, top_p=0.95),
        SampleParams(seed=5, top_k=50, temperature=0.7),
        SampleParams(seed=6, min_p=0.05, num_logprobs=5),
    ):
        got, want = native_sampler.sample_row(x, p), twin.sample_row(x, p)
        assert (got.token, got.rank, got.top_ids) == (want.token, want.rank, want.top_ids)
