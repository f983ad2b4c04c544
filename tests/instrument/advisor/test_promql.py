"""Matchers that users type, and the text of queries."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.history.promql import (
    MAX_QUERY,
    Expressions,
    Matcher,
    Source,
    catalogue,
    parse_matchers,
    quoted,
    unions,
)
from sixfold.instrument.backends.aliases import SGLANG, VLLM

STRING = re.compile(r'"(?:[^"\\\n]|\\[\\"n])*"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('job="vllm"', [("job", "=", "vllm")]),
        ("job=vllm", [("job", "=", "vllm")]),
        (' { job = "vllm" , pod=~"a.*", } ', [("job", "=", "vllm"), ("pod", "=~", "a.*")]),
        ('instance!="10.0.0.1:8000"', [("instance", "!=", "10.0.0.1:8000")]),
        ("instance=10.0.0.1:8000", [("instance", "=", "10.0.0.1:8000")]),
        (r'pod=~"a\\.b"', [("pod", "=~", r"a\.b")]),
        (r'pod="say \"hi\""', [("pod", "=", 'say "hi"')]),
        ('pod="}[5m]) or up{a=', None),
        ('pod="ä, b"', [("pod", "=", "ä, b")]),
        ("", None),
        ("{}", None),
        ("job", None),
        ('job="a" pod="b"', None),
        ('job="a', None),
        ('job="a"} or up{x="', None),
        ("job=a.*", None),
        (r'pod=~"a\.b"', None),
        ('pod="a\nb"', None),
        ('pod="\x1b[2J"', None),
        ('__name__="up"', None),
        ('le="1"', None),
        ('1job="a"', None),
        ("job=" + "a" * 2000, None),
    ],
)
def test_matchers(text: str, expected: list[tuple[str, str, str]] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError) as error:
            parse_matchers([text])
        assert error.value.hint
        return
    found = parse_matchers([text])
    assert [(m.label, m.sign, m.value) for m in found] == expected


def test_what_looks_like_a_query_stays_a_string() -> None:
    found = parse_matchers(['pod="}[5m]) or up{"', 'job="a"'])
    text = Expressions(found).grown(Source("m", 0, "m_total"), 60).text
    assert text == (
        'sum by (job, instance, model_name) (increase(m_total{pod="}[5m]) or up{", job="a"}[60s]))'
    )


def test_too_many_matchers() -> None:
    with pytest.raises(ConfigError):
        parse_matchers(["a=b"] * 17)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_a_value_survives_and_never_ends_its_string(value: str) -> None:
    assert STRING.fullmatch(quoted(value))
    if value.isprintable():
        matcher = Matcher("job", "=", value)
        assert parse_matchers([str(matcher)]) == (matcher,)


@given(st.text(max_size=40))
def test_any_text_is_matchers_or_an_error(text: str) -> None:
    """Whatever is accepted is written as labels, signs and whole strings, nothing else."""
    try:
        found = parse_matchers([text])
    except ConfigError:
        return
    for matcher in found:
        rest = STRING.sub("", str(matcher))
        assert re.fullmatch(r"[a-zA-Z_]\w*(=|!=|=~|!~)", rest, re.ASCII)


def named(sources: tuple[Source, ...], metric: str) -> list[str]:
    return [source.name for source in sources if source.metric == metric]


def test_old_and_new_names_with_and_without_total() -> None:
    names = {
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "vllm:prompt_tokens",
        "vllm:prompt_tokens_total",
        "vllm:time_per_output_token_seconds_sum",
        "vllm:time_per_output_token_seconds_count",
        "vllm:request_queue_time_seconds_count",
    }
    found = catalogue(names, [VLLM])
    assert named(found.gauges, "kv_cache_usage") == [
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
    ]
    assert named(found.counters, "prompt_tokens") == [
        "vllm:prompt_tokens",
        "vllm:prompt_tokens_total",
    ]
    assert [source.rank for source in found.counters] == [0, 1]
    assert named(found.histograms, "itl") == ["vllm:time_per_output_token_seconds"]
    assert not named(found.histograms, "queue"), "a histogram without its sum is none"


def test_a_label_of_an_alias_is_a_matcher() -> None:
    found = catalogue({"sglang:realtime_tokens_total"}, [SGLANG])
    by_metric = {source.metric: source for source in found.counters}
    text = Expressions(parse_matchers(["job=x"])).grown(by_metric["generation_tokens"], 60).text
    assert 'sglang:realtime_tokens_total{mode="decode", job="x"}[60s]' in text


def test_the_text_of_parts() -> None:
    expressions = Expressions()
    by = "by (job, instance, model_name)"
    usage, rate = Source("kv_cache_usage", 0, "u"), Source("prefix_hit_rate", 1, "r")
    assert expressions.level(usage, 60).text == f"max {by} (avg_over_time(u[60s]))"
    assert expressions.level(rate, 60).text == f"avg {by} (avg_over_time(r[60s]))"
    bucket = expressions.buckets(Source("ttft", 0, "t"), 600)
    assert bucket.text == "sum by (le, job, instance, model_name) (increase(t_bucket[600s]))"
    assert str(bucket) == f'label_replace({bucket.text}, "sixfold_part", "bucket:ttft:0", "", "")'
    sums = [part.text for part in expressions.moments(Source("ttft", 0, "t"), 60)]
    assert sums == [f"sum {by} (increase(t_sum[60s]))", f"sum {by} (increase(t_count[60s]))"]


def test_many_parts_are_few_queries_of_bounded_length() -> None:
    parts = [Expressions().grown(Source(f"m{i}", 0, f"name_{i}"), 60) for i in range(100)]
    found = list(unions(parts))
    assert 3 < len(found) < 10
    assert all(len(query) < MAX_QUERY + 500 for query, _ in found)
    assert [tag for _, tags in found for tag in tags] == [part.tag for part in parts]
    assert not list(unions([]))
