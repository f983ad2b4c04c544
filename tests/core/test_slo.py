import math
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.core.metric_names import METRICS
from sixfold.core.slo import (
    MAX_DEPTH,
    AllOf,
    AnyOf,
    Expression,
    Slo,
    all_of,
    any_of,
    parse_slo,
)
from sixfold.core.slo_clause import Clause

LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")


def one(text: str) -> Clause:
    (clause,) = parse_slo(text).clauses
    return clause


def verdict(text: str, **values: float) -> str:
    return parse_slo(text).judge(values).verdict


# What a clause says


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("ttft<300ms", Clause("ttft", "mean", "<", 0.3)),
        ("ttft<300", Clause("ttft", "mean", "<", 0.3)),
        ("ttft:median<200ms", Clause("ttft", "p50", "<", 0.2)),
        ("ttft_p95<=500ms", Clause("ttft", "p95", "<=", 0.5)),
        ("e2e_latency_p95 < 2 s", Clause("e2e", "p95", "<", 2.0)),
        ("e2e_latency:p99.90<1m", Clause("e2e", "p99.9", "<", 60.0)),
        ("itl:max<=250us", Clause("itl", "max", "<=", 0.00025)),
        ("queue:min>=.5s", Clause("queue", "min", ">=", 0.5)),
        ("tpot:p0>1e-3s", Clause("tpot", "p0", ">", 0.001)),
        ("throughput>=100tok/s", Clause("output_throughput", "", ">=", 100.0)),
        ("input_throughput>5", Clause("input_throughput", "", ">", 5.0)),
        ("goodput>=3req/s", Clause("goodput", "", ">=", 3.0)),
        ("error_rate<=1%", Clause("error_rate", "", "<=", 0.01)),
        ("cached_rate>=0.25", Clause("cached_rate", "", ">=", 0.25)),
        ("cost<2.5$", Clause("cost", "", "<", 2.5)),
        ("preemptions<=0", Clause("preemptions", "", "<=", 0.0)),
        (" chat/ttft : p99 <= 300 ms ", Clause("ttft", "p99", "<=", 0.3, "chat")),
        ("and/ttft<1", Clause("ttft", "mean", "<", 0.001, "and")),
    ],
)
def test_reads_what_people_write(text: str, clause: Clause) -> None:
    assert one(text) == clause


@pytest.mark.parametrize(
    "text",
    [
        "ttft:p95<500ms;itl:p95<10ms;e2e_latency:p95<2s",
        "ttft:median<300ms;itl:p95<10ms;e2e_latency:p95<2s",
        "ttft<200ms;itl:p99<10ms",
        "itl:mean<20ms",
    ],
)
def test_accepts_the_constraint_strings_of_llm_optimizer(text: str) -> None:
    assert len(parse_slo(text).clauses) == text.count(";") + 1


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("tttft<1", "did you mean ttft"),
        ("TTFT<1", "did you mean ttft"),
        ("error_rates<1", "did you mean error_rate"),
        ("ttft:p955<1", "did you mean p95"),
        ("ttft:p100.5<1", "choose one of|did you mean"),
        ("ttft:meen<1", "did you mean mean"),
        ("ttft_p101<1", "p0 to p100"),
        ("goodput:p95>1", "write goodput alone"),
        ("throughput_p95>1", "write output_throughput alone"),
        ("ttft==1", "did you mean <= or >="),
        ("ttft=<1", "did you mean <="),
        ("ttft!=1", "choose one of: <, <=, >, >="),
        ("ttft<1minute", "choose one of: ms, us, s, m"),
        ("ttft<1tok/s", "is no unit of ttft"),
        ("throughput>1req/s", "choose one of: tok/s"),
        ("error_rate<1ms", "choose one of: %"),
        ("preemptions<1s", "write the number alone"),
        ("error_rate<5", "0.01 or 1%"),
        ("ttft<nan", "no number"),
        ("ttft<inf", "no number"),
        ("ttft<1e999", "no finite number"),
        ("ttft<-1", "no number"),
        ("ttft<1e999999999999999999999", "no finite number"),
        ("preset:chat@guidelm", "did you mean chat@guidellm"),
    ],
)
def test_refuses_a_wrong_word_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as error:
        parse_slo(f"itl<10ms;{text};e2e<1s")
    assert f"{text!r}" in error.value.message and error.value.hint


def test_d4_a_malformed_string_raises_before_anything_runs() -> None:
    for text in (
        "", "  ", ",", ";", "ttft", "ttft<", "<1", "1<ttft", "1<ttft<2", "ttft p95<1", "ttft:<1",
        "/ttft<1", "ttft<1 itl<1", "ttft<1;", ";ttft<1", "ttft<1;;itl<1", "ttft<1 and", "ttft<1or",
        "or ttft<1", "(ttft<1", "ttft<1)", "()", "(ttft<1)(itl<1)", "ttft<1 (itl<1)", "ttft<٣",
        "ttft:p95<=300msitl:p95<=10ms", "preset:", "(" * 10_000 + "ttft<1" + ")" * 10_000,
    ):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            parse_slo(text)
        assert error.value.hint, text


def test_parentheses_nest_to_a_stated_depth() -> None:
    assert parse_slo("(" * MAX_DEPTH + "ttft<1" + ")" * MAX_DEPTH) == parse_slo("ttft<1")


@given(st.text() | st.text("ttfie2l:p95<>=;,() andor/ms%$.+-e_"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        slo = parse_slo(text)
    except ConfigError:
        return
    assert parse_slo(str(slo)) == slo


# How clauses are joined


def test_and_binds_more_than_or() -> None:
    a, b, c = one("ttft<1"), one("itl<2"), one("e2e<3")
    for joint in (" and ", ";", ",", " AND "):
        assert parse_slo(f"ttft<1 or itl<2{joint}e2e<3").expression == AnyOf((a, AllOf((b, c))))
        assert parse_slo(f"ttft<1{joint}itl<2 or e2e<3").expression == AnyOf((AllOf((a, b)), c))
        grouped = parse_slo(f"(ttft<1 or itl<2){joint}e2e<3")
        assert grouped.expression == AllOf((AnyOf((a, b)), c))
    assert parse_slo("(ttft<1)and(itl<2;(e2e<3))").expression == AllOf((a, b, c))


def percentages() -> st.SearchStrategy[str]:
    return st.integers(0, 100_000_000).map(
        lambda millionths: "p" + f"{millionths / 1e6:.6f}".rstrip("0").rstrip(".")
    )


@st.composite
def clauses(draw: st.DrawFn) -> Clause:
    metric = draw(st.sampled_from(list(METRICS.values())))
    stats = st.sampled_from(["mean", "max", "min"]) | percentages()
    most = 1.0 if metric.kind == "ratio" else None
    return Clause(
        metric.name,
        draw(stats) if metric.has_stats else "",
        draw(st.sampled_from(["<", "<=", ">", ">="])),
        draw(st.floats(0, most, allow_nan=False, allow_infinity=False)),
        draw(st.sampled_from(["", "chat", "and", "or", "a-b.c_1"])),
    )


def expressions() -> st.SearchStrategy[Expression]:
    return st.recursive(
        clauses(),
        lambda parts: (
            st.lists(parts, min_size=1, max_size=3).map(all_of)
            | st.lists(parts, min_size=1, max_size=3).map(any_of)
        ),
        max_leaves=8,
    )


@given(expressions())
def test_what_is_printed_can_be_read(expression: Expression) -> None:
    slo = Slo(expression)
    assert parse_slo(str(slo)) == slo
    assert str(parse_slo(str(slo))) == str(slo)
    assert msgspec.json.decode(msgspec.json.encode(slo), type=Slo) == slo


def test_prints_the_units_that_people_use() -> None:
    text = "chat/ttft:p95<35ms and (error_rate<=1% or e2e:mean<60s) and cost<2.5$"
    assert str(parse_slo(text)) == text


@pytest.mark.parametrize(
    "clause",
    [
        {"metric": "ttfd", "stat": "p95", "op": "<", "bound": 1.0},
        {"metric": "ttft", "stat": "median", "op": "<", "bound": 1.0},
        {"metric": "ttft", "stat": "", "op": "<", "bound": 1.0},
        {"metric": "ttft", "stat": "p95", "op": "==", "bound": 1.0},
        {"metric": "ttft", "stat": "p95", "op": "<", "bound": -1.0},
        {"metric": "error_rate", "stat": "", "op": "<", "bound": 5.0},
        {"metric": "ttft", "stat": "p95", "op": "<", "bound": 1.0, "slo_class": "a b"},
    ],
)
def test_a_record_says_nothing_that_text_could_not(clause: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"expression": {"kind": "clause", **clause}}, Slo)


def test_an_empty_group_is_no_record() -> None:
    # An empty all-of would hold without any measurement.
    for kind in ("all", "any"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"expression": {"kind": kind, "parts": []}}, Slo)


def test_what_is_read_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        one("ttft<1").bound = 2.0  # type: ignore[misc]


# Judging a run


def test_d1_seconds_are_compared_as_seconds() -> None:
    slo = parse_slo("e2e_latency:p95<2s")
    assert slo.judge({"e2e:p95": 1.5}).met
    assert slo.judge({"e2e:p95": 2.5}).verdict == "broken"
    assert slo == parse_slo("e2e:p95<2000ms") == parse_slo("e2e:p95<2000")


def test_d2_or_equal_is_enforced() -> None:
    for op, below, equal, above in (
        ("<", "met", "broken", "broken"),
        ("<=", "met", "met", "broken"),
        (">", "broken", "broken", "met"),
        (">=", "broken", "met", "met"),
    ):
        found = [verdict(f"goodput{op}3", goodput=value) for value in (2.0, 3.0, 4.0)]
        assert found == [below, equal, above], op


@pytest.mark.parametrize(
    ("text", "key", "good", "bad"),
    [
        ("tpot:p95<50ms", "tpot:p95", 0.04, 0.06),
        ("queue:max<1s", "queue:max", 0.5, 1.5),
        ("throughput>=100", "output_throughput", 120.0, 80.0),
        ("input_throughput>=100", "input_throughput", 120.0, 80.0),
        ("total_throughput>=100", "total_throughput", 120.0, 80.0),
        ("request_throughput>=2", "request_throughput", 2.5, 1.5),
        ("goodput>=2req/s", "goodput", 2.5, 1.5),
        ("error_rate<1%", "error_rate", 0.005, 0.02),
        ("cached_rate>=50%", "cached_rate", 0.6, 0.4),
        ("acceptance_rate>0.5", "acceptance_rate", 0.6, 0.4),
        ("kv_usage<=90%", "kv_usage", 0.8, 0.95),
        ("preemptions<=3", "preemptions", 3.0, 4.0),
        ("cost<2$", "cost", 1.9, 2.1),
    ],
)
def test_d3_every_metric_is_judged(text: str, key: str, good: float, bad: float) -> None:
    slo = parse_slo(text)
    assert slo.keys() == (key,)
    assert slo.judge({key: good}).verdict == "met"
    assert slo.judge({key: bad}).verdict == "broken"
    assert slo.judge({}).verdict == "unknown"


@pytest.mark.parametrize("text", [f"{metric}:p95<1000s" for metric in LATENCIES])
def test_d9_a_failed_point_is_never_feasible(text: str) -> None:
    failed = {"error_rate": 1.0, "output_throughput": 0.0, "goodput": 0.0}
    assert not parse_slo(text).judge(failed).met
    assert not parse_slo(f"{text};error_rate<=1").judge(failed).met
    assert parse_slo(f"{text};error_rate<1%").judge(failed).verdict == "broken"
    assert not parse_slo(f"{text} or goodput>0").judge(failed).met


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_unknown(value: float) -> None:
    assert verdict("goodput>1", goodput=value) == "unknown"
    assert verdict("cost<1$", cost=value) == "unknown"


def test_tells_each_clause_its_value_and_margin() -> None:
    slo = parse_slo("chat/ttft:p95<500ms; goodput>=3; itl<10ms")
    result = slo.judge({"chat/ttft:p95": 0.75, "goodput": 3.5, "ttft:p95": 0.1})
    assert slo.keys() == ("chat/ttft:p95", "goodput", "itl:mean")
    assert [c.verdict for c in result.clauses] == ["broken", "met", "unknown"]
    assert [c.value for c in result.clauses] == [0.75, 3.5, None]
    assert [c.margin for c in result.clauses] == [-0.25, 0.5, None]
    assert result.verdict == "broken" and not result.met


def test_keys_are_listed_once() -> None:
    assert parse_slo("ttft>1ms;ttft<1s or ttft:mean<2s").keys() == ("ttft:mean",)


def holds(expression: Expression, values: dict[str, float]) -> bool:
    if isinstance(expression, Clause):
        value = values[expression.key]
        return value < expression.bound if expression.op == "<" else value > expression.bound
    parts = [holds(part, values) for part in expression.parts]
    return all(parts) if isinstance(expression, AllOf) else any(parts)


KEYS = tuple(f"{letter}/goodput" for letter in "abcdef")


@st.composite
def distinct_formulas(draw: st.DrawFn) -> Expression:
    parts: list[Expression] = [
        Clause("goodput", "", draw(st.sampled_from(["<", ">"])), 1.0, key[0]) for key in KEYS
    ]
    while len(parts) > 1:
        count = draw(st.integers(2, len(parts)))
        join = draw(st.sampled_from([all_of, any_of]))
        parts = [*parts[count:], join(parts[:count])]
    return parts[0]


@given(distinct_formulas(), st.lists(st.sampled_from([None, 0.0, 2.0]), min_size=6, max_size=6))
def test_unknown_is_what_no_completion_of_the_values_settles(
    expression: Expression, measured: list[float | None]
) -> None:
    # Each key occurs once, where three-valued logic and trying every value agree.
    choices = [(0.0, 2.0) if value is None else (value,) for value in measured]
    outcomes = {
        holds(expression, dict(zip(KEYS, values, strict=True))) for values in product(*choices)
    }
    expected = "unknown" if len(outcomes) == 2 else "met" if True in outcomes else "broken"
    known = {k: v for k, v in zip(KEYS, measured, strict=True) if v is not None}
    assert Slo(expression).judge(known).verdict == expected


@given(expressions())
def test_nothing_is_met_without_measurements(expression: Expression) -> None:
    assert Slo(expression).judge({}).verdict == "unknown"
