"""NumPy twin of native/sampler: from one row of logits to one token, exactly the same one.

No buckets, no vectors: it sorts all candidates and walks down. It agrees to the bit because
weights are cut to integers (sums have no order) and each float operation here is one rounding
that the native code makes too. The header native/sampler.h tells the order of the steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

REACH = np.float32(27.7)
"""Natural-log distance from the best logit behind which a weight would be 0."""

ONE = 2.0**40
"""The best token's weight."""

_LARGEST = np.finfo(np.float32).max
_MASK32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SampleParams:
    """One request's parameters for one token: SixfoldSampleParams of native/sampler.h."""

    seed: int = 0
    position: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    top_k: int = 0
    num_logprobs: int = -1
    bias: Sequence[tuple[int, float]] = ()
    banned_ids: Sequence[int] = ()
    prompt_ids: Sequence[int] = ()
    output_ids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What one row gives: SixfoldSampleResult. `ok` is False where no finite logit was left."""

    token: int
    ok: bool = True
    logprob: float = 0.0
    rank: int = 0
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


def sample_row(logits: Float32, params: SampleParams) -> SampleResult:
    """Choose a token from logits [V]."""
    x = adjust(clean(logits), params)
    ok = bool(x.max() > -np.inf)
    if not ok:
        token = 0
    elif params.temperature > 0:
        token = draw(x, params)
    else:
        token = int(np.argmax(x))
    if params.num_logprobs < 0:
        return SampleResult(token, ok)
    found = logprobs_row(logits, token, params.num_logprobs)
    return SampleResult(token, ok, found.logprob, found.rank, found.top_ids, found.top_logprobs)


def logprobs_row(logits: Float32, token: int, num_logprobs: int) -> SampleResult:
    """Logprob and rank of `token`, and the best ones, of the untouched logits [V]."""
    x = clean(logits).astype(np.float64)
    best = float(x.max())
    total = best + math.log(np.exp(x - best).sum()) if best > -math.inf else 0.0
    order = np.argsort(-x, kind="stable")
    rank = int(np.flatnonzero(order == token)[0]) + 1
    top = [int(i) for i in order[:num_logprobs]]
    with np.errstate(over="ignore"):
        logprobs = (x - total).astype(np.float32)
    return SampleResult(
        token, True, float(logprobs[token]), rank, tuple(top), tuple(map(float, logprobs[top]))
    )


def clean(x: Float32 | np.float32) -> Float32:
    """NaN counts as -inf, +inf as the largest float."""
    out: Float32 = np.where(np.isnan(x), np.float32(-np.inf), np.minimum(x, _LARGEST))
    return out


def adjust(x: Float32, params: SampleParams) -> Float32:
    """logit_bias, bans, penalties over cleaned logits [V]: a new [V]."""
    x = x.copy()
    vocab = len(x)
    with np.errstate(over="ignore", under="ignore"):
        for token, bias in params.bias:
            if 0 <= token < vocab:
                x[token] = clean(x[token] + np.float32(bias))
        for token in params.banned_ids:
            if 0 <= token < vocab:
                x[token] = -np.inf
        for token in {*params.prompt_ids, *params.output_ids}:
            if 0 <= token < vocab:
                count = list(params.output_ids).count(token)
                x[token] = _penalised(x[token], count, params)
    return x


def _penalised(x: np.float32, count: int, params: SampleParams) -> np.float32:
    """One token's logit under the penalties; `count` is how often the output has it."""
    repetition = np.float32(params.repetition_penalty)
    x = np.float32(clean(x / repetition if x > 0 else x * repetition))
    if count > 0:
        x = np.float32(x - np.float32(params.frequency_penalty) * np.float32(count))
        x = np.float32(x - np.float32(params.presence_penalty))
    return np.float32(clean(x))


def decay(d: Float32) -> Float32:
    """e^-d for 0 <= d <= 80, by the very operations of the native sampler: [n] -> [n]."""
    t = d * np.float32(-1.44269504)
    n = np.rint(t)
    f = (t - n) * np.float32(0.693147181)
    p = f * np.float32(0.00138888889) + np.float32(0.00833333333)
    for coefficient in (0.0416666667, 0.166666667, 0.5, 1.0, 1.0):
        p = p * f + np.float32(coefficient)
    out: Float32 = np.ldexp(p, n.astype(np.int32)).astype(np.float32)
    return out


def draw(x: Float32, params: SampleParams) -> int:
    """Temperature, min_p, top_k, top_p, then one draw: adjusted logits [V] -> token."""
    with np.errstate(over="ignore", under="ignore"):
        distance = (x.max() - x) / np.float32(params.temperature)
    reach = REACH
    if np.float32(params.min_p) > 0:
        reach = min(reach, np.float32(-math.log(float(np.float32(params.min_p)))))
    kept = np.flatnonzero(distance <= max(reach, np.float32(0)))
    kept = kept[np.argsort(distance[kept], kind="stable")]  # nearest first, ties by id
    if params.top_k > 0:
        kept = kept[: params.top_k]
    weights = (decay(distance[kept]).astype(np.float64) * ONE).astype(np.uint64)
    mass = np.cumsum(weights)
    total = int(mass[-1])
    top_p = np.float32(params.top_p)
    if top_p < 1:
        edge = max(int(float(total) * float(top_p)), 1)
        total = int(mass[np.searchsorted(mass, np.uint64(edge))])
    target = (uniform_bits(params.seed, params.position) * total) >> 64
    return int(kept[np.searchsorted(mass, np.uint64(target + 1))])


def uniform_bits(seed: int, position: int) -> int:
    """64 random bits of a request's output position."""
    high, low, _, _ = philox(seed & (2**64 - 1), position)
    return high << 32 | low


def philox(key: int, counter: int) -> tuple[int, int, int, int]:
    """Philox4x32-10 (Salmon et al., 2011): four 32-bit words of a 64-bit key, 128-bit counter."""
    c0, c1, c2, c3 = ((counter >> shift) & _MASK32 for shift in (0, 32, 64, 96))
    k0, k1 = key & _MASK32, key >> 32
    for _ in range(10):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = b >> 32 ^ c1 ^ k0, b & _MASK32, a >> 32 ^ c3 ^ k1, a & _MASK32
        k0, k1 = (k0 + 0x9E3779B9) & _MASK32, (k1 + 0xBB67AE85) & _MASK32
    return c0, c1, c2, c3
