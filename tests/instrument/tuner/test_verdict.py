"""Verdicts hold their error, with peeking, whatever the noise; limits for CI read and judge."""

import math
import random
from statistics import NormalDist

import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.tuner.fail_if import FailIf, parse_fail_if
from sixfold.instrument.tuner.student import t_cdf, t_quantile
from sixfold.instrument.tuner.verdict import (
    CallRules,
    Comparison,
    Look,
    compare,
    needed_repeats,
    noise_floor,
    pair_order,
    spent_by,
)

TRIALS = 1000
LOOKS = {look.pairs for look in CallRules().looks}


def drawn(kind: str, cv: float, rng: random.Random, step: int) -> float:
    if kind == "lognormal":
        return math.exp(rng.gauss(0, cv))
    drift = 1 + 0.05 * step / 11 if kind == "drift" else 1.0
    return max(1 + rng.gauss(0, cv), 0.05) * drift


def experiment(kind: str, cv: float, effect: float, seed: int) -> tuple[str, int]:
    """Interleaved pairs, looked at after each, until a call; the candidate is faster by effect."""
    rng = random.Random(f"{kind}{cv}{effect}{seed}")
    before, after, step = [], [], 0
    for candidate_first in pair_order(6, seed):
        pair = {}
        for side in (candidate_first, not candidate_first):
            pair[side] = 100 * drawn(kind, cv, rng, step) * (1 + effect if side else 1)
            step += 1
        before.append(pair[False])
        after.append(pair[True])
        if len(before) in LOOKS:
            result = compare(before, after, lower_is_better=False)
            if result.final:
                return result.call, len(before)
    raise AssertionError("the last look is final")


@pytest.mark.parametrize("kind", ["normal", "lognormal", "drift"])
@pytest.mark.parametrize("cv", [0.01, 0.03, 0.08])
def test_the_same_thing_twice_is_seldom_a_gain(kind: str, cv: float) -> None:
    calls = [experiment(kind, cv, 0.0, seed)[0] for seed in range(TRIALS)]
    assert sum(call in ("GAIN", "WORSE") for call in calls) <= 0.05 * TRIALS


@pytest.mark.parametrize("kind", ["normal", "lognormal", "drift"])
def test_a_gain_of_a_tenth_is_seen(kind: str) -> None:
    calls = [experiment(kind, 0.03, 0.1, seed)[0] for seed in range(400)]
    assert calls.count("GAIN") >= 0.8 * 400
    assert "WORSE" not in calls


def test_a_loss_is_worse_and_the_direction_counts() -> None:
    before, after = [100, 101, 99, 100, 102, 98], [80, 81, 79, 80, 82, 78]
    assert compare(before, after, lower_is_better=False).call == "WORSE"
    assert compare(before, after, lower_is_better=True).call == "GAIN"
    assert compare(before, after[::-1], lower_is_better=True, paired=False).call == "GAIN"


def test_no_gain_is_not_the_same_as_not_knowing() -> None:
    quiet = [100.0, 100.1, 99.9, 100.0, 100.1, 99.9]
    loud = [100.0, 130.0, 75.0, 110.0, 90.0, 105.0]
    assert compare(quiet, quiet[::-1], False).call == "NO GAIN"
    assert compare(quiet, loud, False).call == "INCONCLUSIVE"


def test_between_planned_looks_nothing_is_called() -> None:
    result = compare([1, 1.01, 0.99, 1, 1.01], [2, 2.01, 1.99, 2, 2.02], False)
    assert (result.call, result.alpha, result.final) == ("INCONCLUSIVE", 0.0, False)


def test_looks_spend_one_error() -> None:
    rules = CallRules()
    assert spent_by(rules, 2) == 0
    assert spent_by(rules, 6) == pytest.approx(0.04)
    assert spent_by(rules, 100) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("before", "after"),
    [([1, 2], [1]), ([1], [1]), ([1, 0, 2], [1, 1, 1]), ([1, math.inf], [1, 1])],
)
def test_what_cannot_be_compared_says_so(before: list[float], after: list[float]) -> None:
    with pytest.raises(ConfigError) as caught:
        compare(before, after, False)
    assert caught.value.hint


def test_needed_repeats_keep_their_promise() -> None:
    assert needed_repeats(0.03, 0.1) <= 6
    assert needed_repeats(0.03, 0.1) <= needed_repeats(0.08, 0.1) < needed_repeats(0.08, 0.02)
    pairs = needed_repeats(0.05, 0.06)
    rules = CallRules(looks=(Look(pairs, 0.04),))
    rng = random.Random(1)
    hits = 0
    for _ in range(500):
        before = [math.exp(rng.gauss(0, 0.05)) for _ in range(pairs)]
        after = [1.06 * math.exp(rng.gauss(0, 0.05)) for _ in range(pairs)]
        hits += compare(before, after, False, rules).call == "GAIN"
    assert 0.72 <= hits / 500 <= 0.92
    with pytest.raises(ConfigError):
        needed_repeats(0.5, 0.001)


def test_noise_floor_pools_repeats() -> None:
    rng = random.Random(3)
    groups = [[k * math.exp(rng.gauss(0, 0.04)) for _ in range(20)] for k in (1, 10, 100)]
    floor = noise_floor([*groups, [5.0]])
    assert floor.freedom == 57
    assert floor.cv == pytest.approx(0.04, rel=0.25)
    with pytest.raises(ConfigError):
        noise_floor([[1.0], [2.0]])


def test_students_t_matches_tables() -> None:
    for df, expected in ((1, 12.7062), (2, 4.3027), (5, 2.5706), (30, 2.0423)):
        assert t_quantile(0.975, df) == pytest.approx(expected, abs=1e-4)
    assert t_quantile(0.9, 1e6) == pytest.approx(NormalDist().inv_cdf(0.9), abs=1e-4)
    assert t_cdf(t_quantile(0.1, 3.5), 3.5) == pytest.approx(0.1)


def compared(low: float, high: float) -> Comparison:
    return Comparison("INCONCLUSIVE", math.sqrt(low * high), low, high, 6, 0.02, True)


def test_limits_are_judged_on_the_whole_interval() -> None:
    rise, fall = parse_fail_if("ttft:p95 > +5%; output_throughput < -3%")
    assert rise == FailIf("ttft:p95", ">", 0.05)
    assert fall == FailIf("output_throughput", "<", -0.03)
    assert [rise.judge(compared(*i)) for i in ((1.06, 1.2), (0.9, 1.04), (1.0, 1.1))] == [
        "fail",
        "pass",
        "unsure",
    ]
    assert [fall.judge(compared(*i)) for i in ((0.9, 0.96), (0.98, 1.1), (0.9, 1.0))] == [
        "fail",
        "pass",
        "unsure",
    ]
    assert parse_fail_if(str(rise)) == (rise,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ttft",
        "ttft > 5%",
        "ttft >= +5%",
        "ttfx > +5%",
        "ttft > +5",
        "goodput:p9 < -3%",
        "ttft < -100%",
        "a > +1% > +2%",
    ],
)
def test_limits_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_fail_if(text)
    assert caught.value.hint
