"""Quality scores of made-up answers, the asking of servers, and the tiny model in fewer bits."""

import json
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import SixfoldError
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job
from sixfold.instrument.tuner.ask import QualityCheck, read_answer
from sixfold.instrument.tuner.quality import (
    LEAST_FIRST,
    MOST_KL,
    PROMPTS,
    Heard,
    agreeing,
    as_telemetry,
    divergence,
    failed,
    score,
    unknown,
)
from sixfold.instrument.tuner.runner import PlannedRun, Runner
from sixfold.instrument.workloads.presets import parse_workload

TINY = Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
SAME = [Heard(("a", "b", "c", "d"), {"a": -0.1, "b": -3.0}) for _ in PROMPTS]


def flipped(count: int, at: int) -> list[Heard]:
    """SAME with a difference at a token of the first `count` answers."""
    tokens = tuple("x" if i >= at else t for i, t in enumerate(SAME[0].tokens))
    return [Heard(tokens, one.top) if i < count else one for i, one in enumerate(SAME)]


def test_prompts_are_many_and_short():
    assert len(PROMPTS) == len(set(PROMPTS)) >= 24
    assert all(0 < len(prompt) < 100 and prompt.isascii() for prompt in PROMPTS)


def test_equal_answers_pass():
    quality = score(SAME, SAME)
    assert (quality.agreement, quality.first_token) == (1, 1)
    assert quality.kl == pytest.approx(0)
    assert quality.passed and quality.reason == ""
    assert failed(as_telemetry(quality)) == ""


def test_first_tokens_decide_at_nine_in_ten():
    allowed = round(len(PROMPTS) * (1 - LEAST_FIRST))
    assert score(SAME, flipped(allowed, 0)).passed
    worse = score(SAME, flipped(allowed + 1, 0))
    assert not worse.passed and "first tokens" in worse.reason and worse.agreement > 0.8
    assert failed(as_telemetry(worse)).startswith("quality: ")


def test_early_differences_everywhere_do_not_pass():
    assert score(SAME, flipped(len(PROMPTS), 1)).agreement == 0.25
    long = [Heard(tuple("abcdefgh")) for _ in PROMPTS]
    theirs = [Heard(tuple("axxxxxxx")) for _ in PROMPTS]
    worse = score(long, theirs)
    assert worse.first_token == 1 and worse.kl is None and not worse.passed
    assert "answers agree for 12%" in worse.reason
    assert "quality_kl" not in as_telemetry(worse)


def test_a_shifted_distribution_does_not_pass():
    theirs = [msgspec.structs.replace(one, top={"a": -1.0, "b": -1.0}) for one in SAME]
    worse = score(SAME, theirs)
    assert worse.kl is not None and worse.kl > MOST_KL and "nats" in worse.reason


@pytest.mark.parametrize(("ours", "theirs"), [([], []), (SAME, SAME[:3]), (SAME[:3], SAME)])
def test_nothing_to_compare_does_not_pass(ours, theirs):
    assert not score(ours, theirs).passed
    assert not score([Heard(())] * 3, [Heard(())] * 3).passed


def test_agreement_counts_up_to_the_first_difference():
    assert agreeing("abcd", "abxd") == 0.5
    assert agreeing("abcd", "ab") == agreeing("ab", "abcd") == 0.5
    assert agreeing("", "") == 1 and agreeing("", "a") == 0


def test_divergence_of_known_distributions():
    ours = {"a": math.log(0.5), "b": math.log(0.5)}
    theirs = {"a": math.log(0.75), "b": math.log(0.25)}
    want = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert divergence(ours, theirs) == pytest.approx(want)
    assert divergence(ours, {"c": math.log(0.999)}) > 5


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.01, 1), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.01, 1), min_size=1, max_size=5),
    st.floats(0.0, 0.5),
)
def test_divergence_is_finite_and_never_negative(p, q, rest):
    def logs(weights):
        total = sum(weights.values()) / (1 - rest)
        return {token: math.log(weight / total) for token, weight in weights.items()}

    value = divergence(logs(p), logs(q))
    assert 0 <= value < 100 and divergence(logs(p), logs(p)) == pytest.approx(0, abs=1e-6)


def test_answers_are_read_in_both_forms_and_without_probabilities():
    old = {"tokens": ["a", "b"], "top_logprobs": [{"a": -0.1, "c": -2}, {}]}
    rows = [
        {"token": "a", "top_logprobs": [{"token": "a", "logprob": -0.1}]},
        {"token": "b", "top_logprobs": []},
    ]
    for told, heard in (
        (old, Heard(("a", "b"), {"a": -0.1, "c": -2.0})),
        ({"content": rows}, Heard(("a", "b"), {"a": -0.1})),
        (None, Heard(("two", "words"))),
    ):
        body = {"choices": [{"text": "two words", "logprobs": told}]}
        assert read_answer(json.dumps(body).encode()) == heard


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"text": "a", "logprobs": 3}]}',
     b'{"choices": [{"text": "a", "logprobs": {"content": [1]}}]}', b"\xff"],
)  # fmt: skip
def test_what_is_no_completion_is_refused(body):
    with pytest.raises(SixfoldError):
        read_answer(body)


BASE = EngineSpec(engine="sixfold", model="m", flags={"max_num_seqs": 4})


def with_flags(**flags) -> EngineSpec:
    return msgspec.structs.replace(BASE, flags=BASE.flags | flags)


def test_only_lossy_configurations_are_asked_and_each_once():
    asked = []

    def ask(url, model):
        asked.append(url)
        return flipped(9, 0) if url == "int4" else SAME

    check = QualityCheck(BASE, ask)
    assert not check.needs_baseline(with_flags(max_num_seqs=8))
    assert check.needs_baseline(with_flags(dtype="int8"))
    check.hear_baseline("base", "m")
    check.hear_baseline("base", "m")
    assert check.look(with_flags(max_num_seqs=8), "x", "m") == {}
    assert check.look(with_flags(dtype="int8"), "int8", "m")["quality_passed"] is True
    assert failed(check.look(with_flags(dtype="int4"), "int4", "m"))
    assert failed(check.look(with_flags(dtype="int4", max_num_seqs=8), "int4", "m"))
    assert asked == ["base", "int8", "int4"]


def test_what_could_not_be_asked_does_not_pass():
    def ask(url, model):
        if url != "base":
            raise SixfoldError("it went away")
        return SAME

    check = QualityCheck(BASE, ask)
    assert "not asked" in failed(check.look(with_flags(dtype="int8"), "x", "m"))
    check.hear_baseline("base", "m")
    assert "it went away" in failed(check.look(with_flags(dtype="int8"), "x", "m"))
    other = QualityCheck(BASE, ask)
    other.hear_baseline("gone", "m")
    assert not other.needs_baseline(with_flags(dtype="int8"))
    assert "the baseline: it went away" in failed(other.look(with_flags(dtype="int8"), "x", "m"))


def test_the_tiny_model_in_fewer_bits(tmp_path):
    flags = {"max_num_seqs": 4, "num_kv_blocks": 64, "max_model_len": 256, "dtype": "f32"}
    spec = EngineSpec(engine="sixfold", model=str(TINY), flags=flags)
    job = Job(
        target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
        workload=parse_workload("random:count=4,input=20,output=4,low=3,high=100"),
        load=2,
    )

    def run(runner, **changes):
        changed = msgspec.structs.replace(spec, flags=flags | changes)
        return runner.run(PlannedRun(study="s", spec=changed), job)

    check = QualityCheck(spec)
    with Runner(tmp_path, lambda text: None, None, check) as runner:
        # As after a stop: the baseline's points are in the store, its answers are not.
        point = run(runner, dtype="int8")
        assert runner.starts == 2
        assert "quality_passed" not in run(runner).telemetry
        baseline = check.look(msgspec.structs.replace(spec, flags=flags | {"dtype": "x"}), "", "")
        assert "not compared" in failed(baseline)
    seen = point.telemetry
    assert point.status == "ok" and 0 < seen["quality_agreement"] <= 1
    assert 0 < seen["quality_first_token"] <= 1
    assert 0 < seen["quality_kl"] < 0.1, "int8 is near f32, and not the same"
    assert seen["quality_passed"] is (seen.get("quality_reason", "") == "")
    assert unknown("x").reason not in str(seen)


def test_a_baseline_that_does_not_start_lets_nothing_lossy_pass(tmp_path):
    flags = {"max_num_seqs": 4, "num_kv_blocks": 64, "max_model_len": 256}
    spec = EngineSpec(engine="sixfold", model=str(TINY), flags=flags | {"dtype": "int8"})
    job = Job(
        target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
        workload=parse_workload("random:count=4,input=20,output=4,low=3,high=100"),
        load=2,
    )
    check = QualityCheck(msgspec.structs.replace(spec, flags={"no_such_flag": 1}))
    with Runner(tmp_path, lambda text: None, None, check) as runner:
        point = runner.run(PlannedRun(study="s", spec=spec), job)
    assert point.status == "ok" and "no-such-flag" in failed(point.telemetry)
