"""Prometheus pages: what engines write, what is broken, and what happened in between."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.instrument.backends import scrape
from sixfold.instrument.backends.aliases import ANY, LLAMACPP, SGLANG, VLLM

PAGE = rb"""# HELP vllm:num_requests_running Requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="a,b\"}\\",engine="0"} 3.0
vllm:num_requests_running{engine="1",} 2 1700000000000
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:prompt_tokens_total{engine="0"} 1.5e+03
vllm:time_to_first_token_seconds_sum 4.5
vllm:time_to_first_token_seconds_count 3
vllm:time_to_first_token_seconds_bucket{le="0.1"} 1
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 3
vllm:empty NaN
broken{le="1} 3
broken 1_000
broken
broken1
0broken 1
"""


def test_page() -> None:
    page = scrape.parse(PAGE)
    assert page.malformed == 5 and not page.truncated
    assert page.kinds == {"vllm:num_requests_running": "gauge"}
    assert page.samples["vllm:num_requests_running"][0].labels["model_name"] == 'a,b"}\\'
    assert "vllm:empty" not in page.samples
    assert scrape.canonical(page, VLLM) == {
        "num_requests_running": 5,
        "kv_cache_usage": 0.5,
        "prompt_tokens": 1500,
    }
    found = scrape.histogram(page, "vllm:time_to_first_token_seconds")
    assert found == scrape.Histogram(4.5, 3, {0.1: 1, math.inf: 3})
    assert scrape.histogram(page, "vllm:nothing") is None


@pytest.mark.parametrize(
    ("aliases", "page", "expected"),
    [
        (VLLM, "vllm:gpu_cache_usage_perc 0.5", {"kv_cache_usage": 0.5}),
        (VLLM, "vllm:gpu_prefix_cache_hits_total 4", {"prefix_cache_hits": 4}),
        (VLLM, "vllm:spec_decode_num_accepted_tokens_total 7", {"spec_accepted": 7}),
        (SGLANG, "sglang:token_usage 0.1\nsglang:num_queue_reqs 2",
         {"kv_cache_usage": 0.1, "num_requests_waiting": 2}),
        (SGLANG, 'sglang:cached_tokens_total{s="device"} 2\nsglang:cached_tokens_total{s="h"} 3',
         {"prefix_cache_hits": 5}),
        (LLAMACPP, "llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\n"
         "llamacpp:kv_cache_usage_ratio 0.3\nllamacpp:prompt_tokens_total 5\n"
         "llamacpp:tokens_predicted_total 6",
         {"num_requests_running": 1, "num_requests_waiting": 2, "kv_cache_usage": 0.3,
          "prompt_tokens": 5, "generation_tokens": 6}),
        (VLLM, "vllm:num_requests_swapped 3\nvllm:avg_generation_throughput_toks_per_s 40.5\n"
         "vllm:avg_prompt_throughput_toks_per_s 80",
         {"num_requests_swapped": 3, "generation_rate": 40.5, "prompt_rate": 80}),
        (VLLM, 'vllm:admission_rejections_total{reason="queue_full"} 2\n'
         'vllm:admission_rejections_total{reason="draining"} 1', {"rejections": 3}),
        (SGLANG, "sglang:token_usage 0.1\nsglang:swa_token_usage 0.7\nsglang:mamba_usage 0.2",
         {"kv_cache_usage": 0.7}),
        (SGLANG, 'sglang:cache_hit_rate{dp="0"} 0.25\nsglang:cache_hit_rate{dp="1"} 0.75\n'
         "sglang:gen_throughput 99\nsglang:num_grammar_queue_reqs 4\n"
         "sglang:max_total_num_tokens 161721",
         {"prefix_hit_rate": 0.5, "generation_rate": 99, "num_grammar_waiting": 4,
          "kv_pool_tokens": 161721}),
        (SGLANG, 'sglang:realtime_tokens_total{mode="prefill_compute"} 100\n'
         'sglang:realtime_tokens_total{mode="prefill_cache"} 900\n'
         'sglang:realtime_tokens_total{mode="decode"} 50',
         {"prompt_tokens_computed": 100, "prefix_cache_hits": 900, "generation_tokens": 50}),
        (SGLANG, 'sglang:realtime_tokens_total{mode="decode"} 50\nsglang:generation_tokens 40',
         {"generation_tokens": 40}),
        (LLAMACPP, "llamacpp:predicted_tokens_seconds 12.5\nllamacpp:prompt_tokens_seconds 80",
         {"generation_rate": 12.5, "prompt_rate": 80}),
        (ANY, "llamacpp:requests_processing 1", {"num_requests_running": 1}),
        (ANY, "vllm:prompt_tokens_total +Inf", {}),
    ],
)  # fmt: skip
def test_aliases(
    aliases: dict[str, tuple[str, ...]], page: str, expected: dict[str, float]
) -> None:
    assert scrape.canonical(scrape.parse(page.encode()), aliases) == expected


def test_delta() -> None:
    before = {"prompt_tokens": 10.0, "generation_tokens": 50.0, "kv_cache_usage": 0.9}
    after = {"prompt_tokens": 15.0, "generation_tokens": 5.0, "kv_cache_usage": 0.1, "other": 1.0}
    assert scrape.delta(before, after) == {
        "prompt_tokens": 5.0,
        "generation_tokens": 5.0,
        "kv_cache_usage": 0.1,
    }


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "MAX_BYTES", 50)
    assert scrape.parse(b"a 1\n" * 20).truncated
    monkeypatch.setattr(scrape, "MAX_SAMPLES", 5)
    page = scrape.parse(b"a 1\n" * 8)
    assert page.truncated and len(page.samples["a"]) == 5


@pytest.mark.parametrize("piece", ["a", 'a="",', "a{", 'a{b="', "1 ", "\\", "# TYPE "])
def test_hostile_lines_take_linear_time(piece: str) -> None:
    """Quadratic work on these would take hours."""
    for text in (piece * 200_000 + "{", "a{" + piece * 200_000, 'a{b="' + piece * 200_000):
        assert scrape.parse(text.encode()).malformed <= 1


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    scrape.canonical(scrape.parse(data), ANY)


@given(st.text(alphabet='a{}="\\, 1.\n+#TYPE', max_size=200))
def test_nearly_pages(text: str) -> None:
    page = scrape.parse(text.encode())
    assert all(math.isfinite(v) for v in scrape.canonical(page, {"x": ("a",)}).values())


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.text(max_size=10), max_size=3),
    st.floats(allow_nan=False),
)
def test_labels_round_trip(labels: dict[str, str], value: float) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    inner = ",".join(f'{k}="{escaped(v)}"' for k, v in labels.items())
    page = scrape.parse(f"name{{{inner}}} {value!r}\n".encode())
    assert page.samples["name"] == (scrape.Sample(labels, value),)
