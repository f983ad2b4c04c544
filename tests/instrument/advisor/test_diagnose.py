"""The symptom table: it reads, each row can be told, and it abstains where a signal is missing."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.config import EngineConfig
from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.instrument.advisor import symptoms
from sixfold.instrument.advisor.conditions import (
    Condition,
    Either,
    all_hold,
    parse_condition,
    parse_rule,
)
from sixfold.instrument.advisor.diagnose import Diagnosis, diagnose
from sixfold.instrument.advisor.evidence import of_point
from sixfold.instrument.advisor.remedies import steps
from sixfold.instrument.advisor.settings import OURS, complete, of_settings
from sixfold.instrument.advisor.signals import SIGNALS, Reading, enabling, excesses
from sixfold.instrument.advisor.symptoms import FACTS, Symptom, table

SLO = parse_slo("ttft:p95<1s;itl:p95<100ms")
IDS = [symptom.id for symptom in table().symptoms]


def signals_for(symptom: Symptom) -> dict[str, float]:
    """Values that hold all of a symptom's conditions, and break no earlier row's silence."""
    values: dict[str, float] = {"ttft_excess": 0.5, "itl_excess": 0.5}
    for _ in range(3):  # conditions on each other settle
        for rule in symptom.conditions:
            condition = rule.parts[0] if isinstance(rule, Either) else rule
            other = values.get(condition.other, 8.0) if condition.other else 1.0
            if condition.other:
                values.setdefault(condition.other, other)
            limit = condition.factor * other
            values[condition.signal] = (
                max(values.get(condition.signal, limit + 0.5), limit + 0.5)
                if condition.sign.startswith(">") else limit * 0.5
            )  # fmt: skip
    if all(values[name] <= 1 for name in ("ttft_excess", "itl_excess")):
        values["ttft_excess"] = 3.0
    return values


def told(values: dict[str, float], engine: str = "vllm") -> Diagnosis:
    readings = {name: Reading(v, "measured", "test") for name, v in values.items()
                if name not in FACTS}  # fmt: skip
    return diagnose(
        readings, SLO, engine,
        replicas=int(values.get("replicas", 1)) or 1, client=values.get("client_seen", 0) >= 1,
    )  # fmt: skip


def only(symptom: Symptom) -> dict[str, float]:
    """As `signals_for`, with every other signal at a value that tells of nothing."""
    calm = {
        "queue_share": 0.1, "prefill_time": 0.2, "prefill_share": 0.5, "running_mean": 4.0,
        "running_max": 4.0, "waiting_mean": 0.0, "waiting_rise": 0.0, "slots": 64.0,
        "static_batching": 0.0, "caching_on": 1.0, "kv_mean": 0.2, "kv_max": 0.3,
        "kv_pressure": 0.3,
        "preempted_share": 0.0, "hit_share": 0.6, "shareable": 0.6, "layout_loss": 0.0,
        "context_slope": 1.0, "client_bound": 0.0, "itl_tail": 1.5, "itl_p50": 0.01,
        "replica_skew": 1.0,
    }  # fmt: skip
    return calm | signals_for(symptom)


@pytest.mark.parametrize("name", IDS)
def test_each_cause_is_told_and_comes_first(name: str) -> None:
    symptom = next(one for one in table().symptoms if one.id == name)
    found = told(only(symptom))
    assert found.state == "found"
    assert found.findings[0].symptom.id == name
    assert symptom.source and symptom.cause and symptom.remedies


@pytest.mark.parametrize("name", IDS)
def test_without_a_signal_that_decides_it_abstains_and_names_it(name: str) -> None:
    symptom = next(one for one in table().symptoms if one.id == name)
    for signal in symptom.decisive:
        values = only(symptom)
        del values[signal]
        found = told(values)
        assert found.state == "abstained", signal
        assert not found.findings
        assert signal in [lack.signal for lack in found.lacks]
        assert all(lack.enable for lack in found.lacks)


@pytest.mark.parametrize("engine", ["sixfold", "vllm", "sglang", "llamacpp", ""])
def test_every_signal_says_how_to_get_it(engine: str) -> None:
    for name in SIGNALS:
        assert enabling(name, engine)
        assert "{" not in enabling(name, engine)


@given(st.dictionaries(st.sampled_from(sorted(SIGNALS)), st.floats(0, 100)))
def test_nothing_is_advised_where_the_objective_holds(values: dict[str, float]) -> None:
    calm = {"ttft_excess": 0.9, "itl_excess": 0.9, "error_share": 0.0, "client_bound": 0.0}
    found = told(values | calm)
    assert found.state == "healthy" and not found.findings and not found.lacks


@given(st.dictionaries(st.sampled_from(sorted(SIGNALS)), st.floats(0, 100)))
def test_an_objective_that_was_not_measured_is_never_judged(values: dict[str, float]) -> None:
    for name in ("ttft_excess", "itl_excess", "error_share", "client_bound"):
        values.pop(name, None)
    found = told(values)
    assert found.state == "abstained" and found.broken is None
    assert {lack.signal for lack in found.lacks} == {"ttft_excess", "itl_excess"}


@given(st.dictionaries(st.sampled_from(sorted(SIGNALS)), st.floats(0, 100)), st.data())
def test_a_lost_signal_never_brings_another_first_cause(
    values: dict[str, float], data: st.DataObject
) -> None:
    """What decided is gone: it may fall silent, or name what came later as well, never instead."""
    before = told(values)
    if before.state != "found":
        return
    first = before.findings[0].symptom
    if not first.decisive:
        return
    signal = data.draw(st.sampled_from(first.decisive))
    left = {name: value for name, value in values.items() if name != signal}
    assert told(left).state == "abstained"


def test_conditions_are_three_valued() -> None:
    known = {"kv_max": 0.95, "slots": 4.0, "running_max": 4.0}
    full = parse_condition("kv_max >= 0.9", SIGNALS)
    at_limit = parse_condition("running_max >= 0.95 * slots", SIGNALS)
    waits = parse_condition("waiting_mean >= 1", SIGNALS)
    assert full.holds(known) and at_limit.holds(known) and waits.holds(known) is None
    assert all_hold((full, waits), known) is None
    assert all_hold((parse_condition("kv_max < 0.5", SIGNALS), waits), known) is False
    either = parse_rule("kv_max >= 0.99 or waiting_mean >= 1", SIGNALS)
    assert either.holds(known) is None and either.holds({"kv_max": 1.0}) is True
    assert either.holds({"kv_max": 0.1, "waiting_mean": 0.0}) is False
    assert either.signals == ("kv_max", "waiting_mean")
    assert str(either) == "kv_max >= 0.99 or waiting_mean >= 1"
    assert str(at_limit) == "running_max >= 0.95 * slots"
    assert parse_condition("slots > running_max", SIGNALS) == Condition(
        "slots", ">", 1.0, "running_max"
    )
    for wrong in ("", "kv_max", "kv_max >=", "kv_max == 1", "nothing > 1", "kv_max > 1 2"):
        with pytest.raises(ConfigError):
            parse_condition(wrong, SIGNALS)


def test_a_clause_that_was_not_measured_leaves_its_signal_out() -> None:
    slo = parse_slo("ttft:p95<1s;ttft:p99<2s;itl:p95<50ms")
    half = excesses(slo, {"ttft:p95": 0.5, "itl:p95": 0.1}, "test")
    assert "ttft_excess" not in half, "p99 could be over its limit"
    assert half["itl_excess"].value == pytest.approx(2)
    over = excesses(slo, {"ttft:p95": 3.0}, "test")
    assert over["ttft_excess"].value == pytest.approx(3), "one over its limit is enough to know"


def test_remedies_multiply_what_is_set_and_say_how_to_undo_it() -> None:
    symptom = next(one for one in table().symptoms if one.id == "batch-capped")
    values = only(symptom)
    first = steps(told(values, "sixfold"), values, "sixfold", complete("sixfold", {}))[0]
    assert first.flags == "--max-num-seqs 256" and first.undo == "--max-num-seqs 64"
    unknown = steps(told(values), values, "vllm", {})[0]
    assert not unknown.changes and unknown.flags == "--max-num-seqs (4 times what it is)"
    llama = steps(told(values, "llamacpp"), values, "llamacpp", {"parallel": 2})[0]
    assert llama.flags == "--parallel 8"


def test_what_would_hurt_is_named_with_the_reason() -> None:
    symptom = next(one for one in table().symptoms if one.id == "prefill-saturated")
    values = only(symptom) | {"itl_excess": 0.9, "token_budget": 256.0}
    found = steps(told(values), values, "vllm", {"max_num_batched_tokens": 256})
    refused = {step.remedy: step.do_not for step in found if step.do_not}
    assert "near its objective" in refused["bigger-chunk"]
    assert [step for step in found if step.do_not] == list(found[-len(refused) :])


def test_defaults_of_ours_are_the_engine_s() -> None:
    real = msgspec.structs.asdict(EngineConfig(model="m"))
    assert {name: real[name] for name in OURS} == dict(OURS)
    signals = of_settings("sixfold", complete("sixfold", {"max-num-seqs": 3}))
    assert signals["slots"].value == 3 and signals["static_batching"].value == 0
    assert of_settings("sglang", {"disable_radix_cache": True})["caching_on"].value == 0
    assert "slots" not in of_settings("vllm", {}), "no default is guessed"


def test_the_tables_know_only_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file, old, new in (
        ("symptoms.toml", 'remedies = ["layout"]', 'remedies = ["nothing"]'),
        ("symptoms.toml", 'decisive = ["client_bound"]', 'decisive = ["kv_max"]'),
        ("symptoms.toml", "[[symptom]]\n", "[[symptom]]\nwrong = 1\n"),
        ("remedies.toml", 'strategy = "chunked prefill"', 'strategy = "hope"'),
        ("remedies.toml", "[more-clients]\n", "[more-clients]\nwrong = 1\n"),
    ):
        for name in ("symptoms.toml", "remedies.toml"):
            text = (Path(symptoms.__file__).parent / name).read_text()
            assert name != file or old in text
            (tmp_path / name).write_text(text.replace(old, new, 1) if name == file else text)
            tomllib.loads((tmp_path / name).read_text())
        monkeypatch.setattr(symptoms, "HERE", tmp_path)
        with pytest.raises(ConfigError):
            symptoms.table.__wrapped__()


def test_a_client_s_lag_counts_only_where_it_explains_what_is_broken() -> None:
    def bound(value: float, lag: float, cpu: float) -> float:
        point = Point(
            id="1", date="2026-01-01", engine="sixfold", model="m", values={"itl:p95": value},
            client={"client_bound": True, "lag_p99": lag, "late_p99": 0.0, "cpu_share": cpu},
        )  # fmt: skip
        return of_point(point, parse_slo("itl:p95<100ms"))["client_bound"].value

    assert bound(0.09, 0.02, 0.95) == 0, "nothing is broken"
    assert bound(0.11, 0.02, 0.5) == 1, "without the lag it would be met"
    assert bound(0.50, 0.02, 0.5) == 0, "the server is late, too"
    assert bound(0.50, 0.02, 0.95) == 1, "a client out of CPU tells nothing of a server"
