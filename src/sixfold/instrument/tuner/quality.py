"""Whether lossy settings still say what the baseline says: scores of answers to fixed prompts.

Pure: answers in, a verdict out, and how a point holds it. Not here: asking a server (ask.py), which
settings are lossy (spaces.py), keeping a configuration that fails from winning (outcome.py).
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import msgspec

PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "Once upon a time, in a village by the sea,",
    "The three primary colours are",
    "To bake a simple loaf of bread, first",
    "def add(a, b):\n    return",
    "for i in range(10):\n    print(",
    "SELECT name FROM users WHERE",
    "Question: What is 7 times 8?\nAnswer:",
    "Question: Which planet is closest to the sun?\nAnswer:",
    "Monday, Tuesday, Wednesday, Thursday,",
    "1, 2, 4, 8, 16, 32,",
    "The opposite of hot is",
    "Dear Ms Jones,\nThank you for your letter of",
    "In summary, the main advantage of public libraries is",
    "The heart pumps blood through",
    "A triangle has three sides, and a square has",
    "English: Good morning.\nFrench:",
    "Plants turn sunlight into energy in a process called",
    "The meeting will take place on Friday at",
    "She opened the old wooden box and found",
    "The quick brown fox jumps over the",
    "Ingredients: flour, sugar, butter, and",
    "Breaking news: scientists have discovered",
    "The first person to walk on the moon was",
    "If it rains tomorrow, we will",
    "The largest ocean on Earth is the",
    '{"name": "Alice", "age": 30, "city":',
    "Review: The food was cold and the service slow. Sentiment:",
    "Step 1: Turn off the power. Step 2:",
)
"""Short and of many kinds; never changed without need, so that scores stay comparable."""

TOKENS = 32
"""Tokens asked for each prompt."""
TOP = 5
"""Most likely first tokens whose probabilities are asked for."""
LEAST_FIRST = 0.9
"""Of the first tokens, as many must be the baseline's. They depend on the prompt alone, not on an
earlier flip, so that this is the share of decisions that the settings leave as they were; near
ties of the baseline's own two best tokens make up most of the tenth that may differ."""
LEAST_AGREEMENT = 0.25
"""Of the answer's tokens up to the first difference. One flip in ten tokens, as above, leaves a
mean prefix of 27 % of 32 tokens: less than a quarter is worse than the first tokens may be."""
MOST_KL = 0.1
"""Nats: what the settings cost in bits at the first token, as a rise in perplexity of a tenth."""


class Heard(msgspec.Struct, frozen=True):
    """One answer: its tokens (words of its text, if the server names none), in order."""

    tokens: tuple[str, ...]
    top: dict[str, float] = {}
    """Log-probabilities of the most likely first tokens; empty if the server tells none."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How far a configuration says what the baseline says, and whether that is enough."""

    agreement: float
    """Mean part of an answer up to its first difference, 0 to 1."""
    first_token: float
    """Share of prompts with the same first token, 0 to 1."""
    kl: float | None = None
    """Mean Kullback-Leibler divergence of first-token distributions, in nats, over the baseline's
    most likely tokens and the rest as one; None where a server tells no probabilities."""
    passed: bool
    reason: str = ""
    """Why it did not pass; empty if it did."""


def score(baseline: Sequence[Heard], candidate: Sequence[Heard]) -> Quality:
    """Compare answers to the same prompts, in the same order. Nothing to compare does not pass."""
    if not baseline or len(baseline) != len(candidate):
        return unknown(f"{len(candidate)} answers to compare with {len(baseline)}")
    pairs = list(zip(baseline, candidate, strict=True))
    if not any(ours.tokens for ours, _ in pairs):
        return unknown("the baseline's answers are empty")
    agreement = fmean(agreeing(a.tokens, b.tokens) for a, b in pairs)
    first = fmean(a.tokens[:1] == b.tokens[:1] for a, b in pairs)
    known = [divergence(a.top, b.top) for a, b in pairs if a.top and b.top]
    kl = fmean(known) if known else None
    reasons = []
    if first < LEAST_FIRST:
        reasons.append(f"{first:.0%} of first tokens are the baseline's, {LEAST_FIRST:.0%} needed")
    if agreement < LEAST_AGREEMENT:
        reasons.append(f"answers agree for {agreement:.0%}, {LEAST_AGREEMENT:.0%} needed")
    if kl is not None and kl > MOST_KL:
        reasons.append(f"first tokens diverge by {kl:.3g} nats, at most {MOST_KL:g} may be")
    return Quality(
        agreement=agreement,
        first_token=first,
        kl=kl,
        passed=not reasons,
        reason="; ".join(reasons),
    )


def unknown(why: str) -> Quality:
    """What could not be compared, and so does not pass."""
    return Quality(agreement=0.0, first_token=0.0, passed=False, reason=f"not compared: {why}")


def agreeing(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """The part of two answers up to their first difference; 1 for equal ones."""
    longest = max(len(ours), len(theirs))
    pairs = zip(ours, theirs, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    return same / longest if longest else 1.0


def divergence(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """KL of two next-token distributions of which the most likely log-probabilities are known.

    Over our tokens, and all others as one. A token that they do not name has at most their least
    likely named one's probability, and shares what theirs leave over. Never below 0.
    """
    q_left = max(1.0 - sum(map(math.exp, theirs.values())), 1e-9)
    share = q_left / (1 + sum(token not in theirs for token in ours))
    unnamed = min([share, *map(math.exp, theirs.values())])
    total, p_sum, q_sum = 0.0, 0.0, 0.0
    for token, log_p in ours.items():
        p = math.exp(log_p)
        q = math.exp(theirs[token]) if token in theirs else unnamed
        total += p * (log_p - math.log(max(q, 1e-12)))
        p_sum, q_sum = p_sum + p, q_sum + q
    p_rest = max(1.0 - p_sum, 0.0)
    if p_rest > 0:
        total += p_rest * math.log(p_rest / max(1.0 - q_sum, 1e-9))
    return max(total, 0.0)


def as_telemetry(quality: Quality) -> dict[str, Any]:
    """As a point holds it, without what is empty: "quality_agreement", "quality_passed", ..."""
    fields = msgspec.structs.asdict(quality)
    return {f"quality_{name}": value for name, value in fields.items() if value not in (None, "")}


def failed(telemetry: Mapping[str, Any]) -> str:
    """Why a point's settings did not pass; empty if they did, or were not checked."""
    if telemetry.get("quality_passed", True):
        return ""
    return f"quality: {telemetry.get('quality_reason', 'it did not pass')}"
