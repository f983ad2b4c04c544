"""Histories: peaks, restarts, gaps, renamed metrics; and servers that answer with anything else.

One test asks a real Prometheus, where it is installed, over a history that promtool imported.
"""

import json
import math
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instrument.advisor.histories import (
    INTERVAL,
    PEAK,
    PEAK_SECONDS,
    START,
    FakePrometheus,
    Story,
    Told,
    context,
    envelope,
    open_metrics,
    vllm,
    waiting,
)
from sixfold.core.errors import ConfigError
from sixfold.core.slo import parse_slo
from sixfold.instrument.advisor.evidence import of_window
from sixfold.instrument.advisor.history import api
from sixfold.instrument.advisor.history.past import Grid, Past, Replica, duration, plain
from sixfold.instrument.advisor.history.prometheus import History
from sixfold.instrument.backends.fetch import MAX_BYTES
from sixfold.instrument.telemetry.histograms import quantile

HOURS = 3
SECONDS = HOURS * 3600


def look(story: Story, seconds: int = SECONDS, match: str = "", **more: object) -> Past:
    with FakePrometheus(story) as server:
        history = History(server.url, [match] if match else (), clock=lambda: story.end, **more)
        return history.look(seconds)


def replica(past: Past, name: str) -> Replica:
    return next(one for one in past.replicas if one.name == name)


def noted(past: Past, *words: str) -> bool:
    return any(all(word in line for word in words) for line in past.notes)


@pytest.fixture(scope="module")
def pair() -> Story:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    vllm(story, "b:8000", 0.25)
    return story


def check_pair(past: Past, story: Story, tolerance: float) -> None:
    """What must come out of the two servers, whoever evaluates."""
    assert past.engine == "vllm" and past.model == "m"
    assert past.load_by == "requests running and waiting"
    assert past.peak is not None and past.quiet is not None
    assert PEAK - 60 <= past.peak.start < past.peak.end <= PEAK + PEAK_SECONDS + 60
    assert past.peak.end - past.peak.start == 300
    assert past.peak.load == pytest.approx(1.25 * (20 + 10), rel=0.01)
    assert past.quiet.load is not None and past.quiet.load < 4.5
    for one in past.replicas:
        assert one.share == pytest.approx(1.0, abs=0.02) and not one.restarts
        for span, window in ((past.whole, one.whole), (past.peak, one.peak)):
            assert window is not None and window.seconds == span.end - span.start
            for name in ("generation_tokens", "prompt_tokens", "prefix_cache_hits"):
                true = story.grown(f"vllm:{name}_total", one.name, span.start, span.end)
                assert window.grown[name] == pytest.approx(true, rel=tolerance)
            ttft = window.histograms["ttft"]
            counted = ("vllm:time_to_first_token_seconds_count", one.name, span.start, span.end)
            assert ttft.count == pytest.approx(story.grown(*counted), rel=tolerance)
            assert list(ttft.buckets)[-1] == math.inf
    a = replica(past, "a:8000")
    assert a.peak is not None and len(a.peak.gauges["num_requests_running"]) > 15
    assert set(a.peak.gauges["num_requests_running"]) == {20.0}
    mean = a.peak.histograms["ttft"].sum / a.peak.histograms["ttft"].count
    assert mean == pytest.approx(0.1 + 0.05 * waiting(PEAK + 1), rel=tolerance)
    middle = quantile(a.peak.histograms["ttft"], 0.5)
    assert middle is not None and 0.5 < middle <= 1.0
    assert a.peak.grown["num_preemptions"] > 10
    assert a.quiet is not None and a.quiet.grown["num_preemptions"] == 0
    assert a.whole.settings == {
        "block_size": 16, "num_gpu_blocks": 1000, "enable_prefix_caching": True
    }  # fmt: skip


def test_the_peak_is_found_and_both_replicas_are_told(pair: Story) -> None:
    past = look(pair)
    check_pair(past, pair, 1e-6)
    assert past.notes == ()


def test_windows_go_into_the_evidence(pair: Story) -> None:
    a = replica(look(pair), "a:8000")
    assert a.peak is not None
    readings = of_window(a.peak, parse_slo("ttft:p95<300ms"))
    assert readings["running_mean"].value == pytest.approx(20)
    assert readings["hit_share"].value == pytest.approx(0.25)
    assert readings["ttft_excess"].value > 1


def test_trends_are_slopes_over_steps(pair: Story) -> None:
    found = look(pair).trends
    by_context, by_waiting = found["tpot_by_context"], found["ttft_by_waiting"]
    assert by_context is not None and by_context.n > 100
    assert by_context.slope == pytest.approx(1e-5, rel=0.02) and by_context.r2 > 0.99
    low, high = min(map(context, range(0, 9000, 60))), max(map(context, range(0, 9000, 60)))
    assert (by_context.low, by_context.high) == (
        pytest.approx(low, rel=0.05), pytest.approx(high, rel=0.05)
    )  # fmt: skip
    assert by_context.ratio == pytest.approx((0.01 + 1e-5 * high) / (0.01 + 1e-5 * low), rel=0.05)
    assert by_waiting is not None and by_waiting.slope > 0.05 and by_waiting.r2 > 0.9


def test_few_steps_have_no_trend_but_a_peak() -> None:
    story = Story(900)
    vllm(story, "a:8000")
    past = look(story, 420)
    assert set(past.trends.values()) == {None}
    assert past.peak is not None and past.quiet is None
    assert past.whole.end - past.whole.start == 420


def test_a_restart_is_counted_as_prometheus_does_it(pair: Story) -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    name = "vllm:generation_tokens_total"
    true = story.grown(name, "a:8000", START, story.end)
    story.restart("a:8000", START + 4000)
    past = look(story)
    one = past.replicas[0]
    assert one.restarts == 1 and noted(past, "a:8000 was restarted once")
    assert one.whole.grown["generation_tokens"] == pytest.approx(true, rel=0.01)
    assert one.whole.histograms["ttft"].count > 0


def test_an_address_of_several_servers_is_no_counter() -> None:
    """Every other scrape reaches another process: growth would be absurd, so there is none."""
    story = Story(SECONDS)
    vllm(story, "a:8000")
    for _, samples in story.of("a:8000"):
        if samples[0][1] >= 1000:
            samples[:] = [(t, v / (1 + n % 2)) for n, (t, v) in enumerate(samples)]
    past = look(story)
    one = past.replicas[0]
    assert not one.whole.grown and not one.whole.histograms
    assert one.peak is not None and not one.peak.grown
    assert one.whole.gauges["num_requests_running"]
    assert noted(past, "a:8000", "fell", "several servers")
    assert past.trends["tpot_by_context"] is None


def test_a_counter_that_fell_but_not_to_begin_anew_is_left_out() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    for name, samples in story.of("a:8000"):
        if name == "vllm:generation_tokens_total":
            t, _ = samples[300]
            samples[300] = (t, samples[299][1] - 400)
    past = look(story)
    assert not past.replicas[0].whole.grown and noted(past, "not to begin anew")


def test_half_up_replicas_are_said_and_not_judged_by_a_peak_they_missed() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    vllm(story, "b:8000", 0.5)
    story.gap("b:8000", PEAK - 3600, PEAK + 1200)
    past = look(story)
    a, b = past.replicas
    assert a.peak is not None and b.peak is None and b.quiet is not None
    assert a.share == 1.0 and b.share == pytest.approx(1 - 4800 / SECONDS, abs=0.03)
    assert noted(past, "a part of the time only", "b:8000")
    assert noted(past, "b:8000 was not there for most of the peak")


def test_time_without_any_sample_is_said() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    story.gap("a:8000", START, START + 3600)
    story.gap("a:8000", story.end - 1200, story.end + 1)
    past = look(story)
    assert noted(past, "nothing is known of the first") and noted(past, "is it still scraped?")
    assert past.replicas[0].share == 1.0, "nobody was scraped then"


def test_without_gauges_the_peak_is_by_generated_tokens() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    for key in [key for key in story.series if "num_requests" in key[0]]:
        del story.series[key]
    past = look(story)
    assert past.load_by == "tokens generated per step" and noted(past, "generated per step")
    assert past.peak is not None and PEAK - 60 <= past.peak.start <= PEAK + PEAK_SECONDS


def test_an_idle_server_has_no_peak() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000", 0.0)
    past = look(story)
    assert past.peak is None and past.quiet is None and noted(past, "there was no load")
    assert past.replicas[0].whole.grown["generation_tokens"] == 0
    assert "ttft" not in past.replicas[0].whole.histograms


def test_what_is_no_number_is_left_out_and_said() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    for name, samples in story.of("a:8000"):
        if name == "vllm:kv_cache_usage_perc":
            samples[200:] = [(t, math.nan) for t, _ in samples[200:]]
    past = look(story)
    assert noted(past, "NaN")
    assert all(map(math.isfinite, past.replicas[0].whole.gauges["kv_cache_usage"]))
    assert past.replicas[0].peak is not None
    assert "kv_cache_usage" not in past.replicas[0].peak.gauges


def test_a_percentage_is_no_fraction() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    for name, samples in story.of("a:8000"):
        if name == "vllm:kv_cache_usage_perc":
            samples[:] = [(t, 100 * v) for t, v in samples]
    past = look(story)
    assert "kv_cache_usage" not in past.replicas[0].whole.gauges
    assert noted(past, "a:8000", "kv_cache_usage", "no fraction")


@pytest.mark.parametrize(("off", "words"), [(3600.0, "ahead of"), (-90.0, "behind"), (0.0, "")])
def test_clocks_that_differ_are_said_and_the_servers_counts(off: float, words: str) -> None:
    story = Story(1800)
    vllm(story, "a:8000")
    with FakePrometheus(story) as server:
        past = History(server.url, clock=lambda: story.end + off).look(1800)
    assert noted(past, words, duration(abs(off)), "clock") if words else not past.notes
    assert past.whole.end == story.end


def rename(story: Story, old: str, new: str, after: float = 0.0) -> None:
    """Samples after that time stand under the new name, the earlier ones under the old one."""
    for name, labels in [key for key in story.series if key[0].startswith(old)]:
        samples = story.series.pop((name, labels))
        story.series[name.replace(old, new), labels] = [s for s in samples if s[0] >= after]
        if before := [s for s in samples if s[0] < after]:
            story.series[name, labels] = before


def test_old_names() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    rename(story, "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
    rename(story, "vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits")
    rename(story, "vllm:request_time_per_output_token", "vllm:time_per_output_token")
    past = look(story)
    window = past.replicas[0].whole
    assert window.grown["prefix_cache_hits"] > 0 and window.gauges["kv_cache_usage"]
    assert "itl" in window.histograms and "tpot" not in window.histograms
    assert past.trends["tpot_by_context"] is not None


def test_a_metric_that_changed_its_name_is_left_out_of_the_whole_only() -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    rename(story, "vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits")
    hits = "vllm:gpu_prefix_cache_hits"
    rename(story, hits, "vllm:prefix_cache_hits_total", after=START + 5000)
    past = look(story)
    one = past.replicas[0]
    assert "prefix_cache_hits" not in one.whole.grown and noted(past, "prefix_cache_hits")
    assert one.peak is not None and past.peak is not None
    true = story.grown("vllm:prefix_cache_hits_total", "a:8000", past.peak.start, past.peak.end)
    assert one.peak.grown["prefix_cache_hits"] == pytest.approx(true)


OTHERS = {
    "sglang": {
        "vllm:num_requests_running": "sglang:num_running_reqs",
        "vllm:num_requests_waiting": "sglang:num_queue_reqs",
        "vllm:kv_cache_usage_perc": "sglang:token_usage",
        "vllm:generation_tokens_total": "sglang:generation_tokens_total",
        "vllm:prompt_tokens_total": "sglang:prompt_tokens_total",
        "vllm:time_to_first_token_seconds": "sglang:time_to_first_token_seconds",
    },
    "llamacpp": {
        "vllm:num_requests_running": "llamacpp:requests_processing",
        "vllm:num_requests_waiting": "llamacpp:requests_deferred",
        "vllm:generation_tokens_total": "llamacpp:tokens_predicted_total",
        "vllm:prompt_tokens_total": "llamacpp:prompt_tokens_total",
    },
}


@pytest.mark.parametrize("engine", OTHERS)
def test_other_engines(engine: str) -> None:
    story = Story(SECONDS)
    vllm(story, "a:8000")
    for old, new in OTHERS[engine].items():
        rename(story, old, new)
    for key in [key for key in story.series if key[0].startswith("vllm:")]:
        del story.series[key]
    past = look(story)
    assert past.engine == engine and past.peak is not None
    assert past.replicas[0].whole.grown["generation_tokens"] > 0
    assert ("ttft" in past.replicas[0].whole.histograms) is (engine == "sglang")


def test_ours_is_told_by_its_own_prefix() -> None:
    story = Story(1800)
    vllm(story, "a:8000")
    story.count("sixfold:engine_restarts_total", lambda t: 0.0, job="x", instance="b:1")
    with pytest.raises(ConfigError, match="2 engines: sixfold, vllm"):
        look(story, 1800)
    story.series.clear()
    vllm(story, "a:8000")
    story.count("sixfold:engine_restarts_total", lambda t: 0.0, job="vllm", instance="a:8000")
    assert look(story, 1800).engine == "sixfold"


def test_several_models_and_engines_are_not_mixed() -> None:
    story = Story(1800)
    vllm(story, "a:8000")
    vllm(story, "b:8000", model_name="other")
    with pytest.raises(ConfigError, match="2 models: m, other") as error:
        look(story, 1800)
    assert "--match 'model_name=\"m\"'" in error.value.hint
    story.add("sglang:num_running_reqs", lambda t: 1.0, job="s", instance="c:1")
    with pytest.raises(ConfigError, match="2 engines: sglang, vllm"):
        look(story, 1800)


def test_an_instance_that_two_jobs_scrape_counts_once() -> None:
    story = Story(1800)
    vllm(story, "a:8000")
    vllm(story, "a:8000", job="pods")
    past = look(story, 1800)
    assert len(past.replicas) == 1 and noted(past, "a:8000 is scraped by the jobs")


def test_an_engine_that_is_not_known_is_said_with_what_is_there() -> None:
    story = Story(1800)
    for name in ("tgi_queue_size", "tgi_batch_current_size", "go_goroutines"):
        story.add(name, lambda t: 1.0, job="x", instance="a:1")
    with pytest.raises(ConfigError, match="names there begin with tgi_, go_") as error:
        look(story, 1800, 'job="x"')
    assert "known are sixfold, vllm, sglang, llamacpp" in error.value.hint
    story.series.clear()
    with pytest.raises(ConfigError, match="no metrics at all"):
        look(story, 1800)


def test_matchers_are_in_every_query_that_reads_series(pair: Story) -> None:
    with FakePrometheus(pair) as server:
        History(server.url, 'job="vllm"', clock=lambda: pair.end).look(1800)
    queries = [p.get("query", "") + p.get("match[]", "") for _, p in server.asked]
    assert all('job="vllm"' in query for query in queries if query != "time()")


def test_long_windows_are_asked_in_slices_under_the_servers_limit(pair: Story) -> None:
    with FakePrometheus(pair) as server:
        past = History(server.url, clock=lambda: pair.end).look(2 * 86400)
    points = [
        (int(p["end"]) - int(p["start"])) // int(p["step"]) + 1
        for path, p in server.asked
        if path.endswith("query_range")
    ]
    assert max(points) <= 1000 and len(points) > 2
    assert past.whole.end - past.whole.start == 2 * 86400
    assert past.peak is not None and PEAK - 300 <= past.peak.start <= PEAK + PEAK_SECONDS
    assert len(server.asked) < 60


def test_an_answer_that_is_too_large_is_asked_in_halves(pair: Story) -> None:
    def mangle(path: str, p: dict[str, str]) -> bytes | None:
        if path.endswith("query_range") and int(p["end"]) - int(p["start"]) > 3600:
            return b" " * MAX_BYTES
        return None

    with FakePrometheus(pair) as server:
        server.mangle = mangle
        past = History(server.url, clock=lambda: pair.end).look(SECONDS)
    check_pair(past, pair, 1e-6)


@pytest.mark.parametrize("seconds", [0, -5, 299, 1e9, math.nan, math.inf])
def test_windows_that_make_no_sense(seconds: float) -> None:
    with pytest.raises(ConfigError):
        History("http://127.0.0.1:9").look(seconds)


def test_a_window_in_the_future() -> None:
    story = Story(1800)
    vllm(story, "a:8000")
    with FakePrometheus(story) as server, pytest.raises(ConfigError, match="future"):
        History(server.url, clock=lambda: story.end).look(1800, end=story.end + 4000)


HOSTILE = {
    "html": (200, b"<html>\x1b[31mnot it</html>"),
    "empty": (200, b""),
    "truncated": (200, b'{"status":"success","data":{"resultType":"vector","result":[{"met'),
    "a list": (200, b"[1,2]"),
    "null": (200, b"null"),
    "no data": (200, b'{"status":"success"}'),
    "wrong types": (200, envelope({"resultType": "vector", "result": [{"metric": 5}]})),
    "wrong pairs": (200, envelope({"result": [{"metric": {}, "value": ["x", 1]}]})),
    "an error": (422, b'{"status":"error","errorType":"bad_data","error":"too\\nmany \\u001b[2J"}'),
    "an error with 200": (200, b'{"status":"error","error":"no"}'),
    "not found": (404, b"404 page not found"),
    "unauthorised": (401, b"who?"),
    "a redirect": (302, b""),
    "gone": (503, b"upstream"),
    "nested": (200, b'{"status":"success","data":' + b"[" * 100_000),
    "huge": (200, b'{"status":"success","data":"' + b"a" * MAX_BYTES),
    "not utf-8": (200, b'{"status":"success","data":"\xff"}'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_server_that_is_something_else_is_one_line(name: str) -> None:
    with FakePrometheus(Story(INTERVAL)) as server:
        server.mangle = lambda path, p: HOSTILE[name]
        with pytest.raises(ConfigError) as error:
            History(server.url).look(3600)
    text = error.value.message
    assert server.url in text and text.isprintable() and len(text) < 400 and error.value.hint


@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"unauthorised", "a redirect"}))
def test_what_fails_later_costs_what_it_asks_for(name: str, pair: Story) -> None:
    """Buckets and growths fail; the peak is still found, and nothing stands for what lacks."""

    def mangle(path: str, p: dict[str, str]) -> tuple[int, bytes] | None:
        return HOSTILE[name] if "_bucket" in p.get("query", "") else None

    with FakePrometheus(pair) as server:
        server.mangle = mangle
        past = History(server.url, clock=lambda: pair.end).look(SECONDS)
    assert past.peak is not None and noted(past, "queries failed")
    for one in past.replicas:
        assert one.peak is not None
        assert all(not found.buckets for found in one.peak.histograms.values())
        assert all(line.isprintable() for line in past.notes)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NUMBERS = st.sampled_from(["NaN", "+Inf", "-Inf", "1e999", "-5", "0", "x", "", "1", "3e300"])
LABELS = st.fixed_dictionaries(
    {},
    optional={
        "job": st.just("vllm"),
        "instance": st.sampled_from(["a:8000", "b:8000", "\x1b[0m"]),
        "le": st.sampled_from(["0.1", "+Inf", "NaN", "x", "-1"]),
        "sixfold_part": st.sampled_from(
            [f"{kind}:{metric}:0"
             for kind in ("level", "grown", "sum", "count", "bucket", "falls", "least", "most")
             for metric in ("num_requests_running", "generation_tokens", "ttft", "kv_cache_usage")]
        ),
    },
)  # fmt: skip
TIMES = st.sampled_from([0, START, START + 600, START + 1200, START + 1201.5, -1e300, 1e300])
ROWS = st.lists(
    st.fixed_dictionaries({
        "metric": LABELS,
        "value": st.tuples(TIMES, NUMBERS),
        "values": st.lists(st.tuples(TIMES, NUMBERS), max_size=4),
    }),
    max_size=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(VALUES | ROWS.map(lambda rows: {"result": rows}), min_size=1, max_size=8))
def test_any_answers_make_a_record_of_finite_numbers_or_an_error(
    monkeypatch: pytest.MonkeyPatch, answers: list[object]
) -> None:
    """The roster is told as it is, what comes after it is anything."""
    story = Story(1800)
    story.add("vllm:num_requests_running", lambda t: 1.0, job="vllm", instance="a:8000")
    story.count("vllm:generation_tokens_total", lambda t: 1.0, job="vllm", instance="a:8000")
    for part in ("sum", "count"):
        name = f"vllm:time_to_first_token_seconds_{part}"
        story.count(name, lambda t: 1.0, job="vllm", instance="a:8000")
    told = FakePrometheus.__new__(FakePrometheus)  # its answers without its socket
    given_, asked = iter(answers * 50), []
    told._told, told._end = Told(story), story.end

    def fetch(url: str, request: object, *_: object, **__: object) -> tuple[int, bytes]:
        parts = urlsplit(request.path)  # type: ignore[attr-defined]
        parameters = {k: v[0] for k, v in parse_qs(parts.query).items()}
        asked.append(parts.path)
        if len(asked) <= 3:
            return 200, told.answer(parts.path, parameters)
        return 200, envelope(next(given_))

    monkeypatch.setattr(api, "fetch", fetch)
    past = History("http://127.0.0.1:9", clock=lambda: story.end).look(1800)
    for one in past.replicas:
        for window in filter(None, (one.whole, one.peak, one.quiet)):
            numbers = [*window.grown.values(), *(v for vs in window.gauges.values() for v in vs)]
            numbers += [h.sum for h in window.histograms.values()]
            numbers += [h.count for h in window.histograms.values()]
            assert all(math.isfinite(v) and v >= 0 for v in numbers)
            assert all(h.count > 0 for h in window.histograms.values())
    assert all(line.isprintable() for line in past.notes)


def test_a_server_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every read in time; the whole answer has a limit of its own."""
    monkeypatch.setattr(api, "TIMEOUT", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while not over.wait(0.02):
                        connection.sendall(b" ")
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with pytest.raises(ConfigError, match="no whole answer within"):
                History(url).look(3600)
        finally:
            over.set()
            thread.join()


def test_all_answers_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BUDGET", -1.0)
    with pytest.raises(ConfigError, match="in all"):
        History("http://127.0.0.1:9").look(3600)


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for scheme in ("http", "https"):
        with pytest.raises(ConfigError, match="does not answer"):
            History(f"{scheme}://127.0.0.1:{port}").look(3600)


def test_https_is_spoken_to_no_plain_server() -> None:
    with FakePrometheus(Story(INTERVAL)) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(ConfigError, match="does not answer"):
            History(url).look(3600)
        assert not server.asked


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9090",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:x",
        "http://user:secret@127.0.0.1:9090",
        "http://127.0.0.1:9090/?a=secret",
        "http://127.0.0.1:9090/a b",
        "http://[::1",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        History(url)
    assert "user:" not in str(error.value)


def test_a_path_before_the_api_is_kept(pair: Story) -> None:
    with FakePrometheus(pair) as server:
        History(f"{server.url}/prom/", clock=lambda: pair.end).look(1800)
    assert all(path.startswith("/prom/api/v1/") for path, _ in server.asked)


TOKEN = "s3cr3t-t0ken"


def test_the_token_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROM_TOKEN", f"{TOKEN}\n")
    with FakePrometheus(Story(INTERVAL)) as server:
        told = {"status": "error", "error": f"bad token {TOKEN}", "errorType": TOKEN}
        server.mangle = lambda path, p: (400, json.dumps(told).encode())
        history = History(server.url, token_env="PROM_TOKEN")
        with pytest.raises(ConfigError, match="bad token") as error:
            history.look(3600)
        server.mangle = lambda path, p: (200, f"<p>{TOKEN}</p>".encode())
        with pytest.raises(ConfigError) as page:
            history.look(3600)
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in f"{error.value!r} {error.value} {page.value} {history!r}"


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "tök", "a\r\nX: y"])
def test_tokens_that_are_none(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROM_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("PROM_TOKEN", value)
    with pytest.raises(ConfigError) as error:
        History("http://127.0.0.1:9", token_env="PROM_TOKEN")
    assert "PROM_TOKEN" not in str(error.value), "it may be the token itself"


def test_grids_and_words() -> None:
    grid = Grid(600, 60, 10)
    assert [grid.index(t) for t in (600, 660, 1200, 1260, 690, 660.4)] == [
        None,
        0,
        9,
        None,
        None,
        0,
    ]
    assert [(p.start, p.count) for p in grid.pieces(4)] == [(600, 4), (840, 4), (1080, 2)]
    assert [duration(s) for s in (45, 90, 600, 86400, 172800)] == [
        "45 s", "1.5 min", "10 min", "24 h", "2 d"
    ]  # fmt: skip
    assert plain("a\n\x1b[2J" + "b" * 500).startswith("a ?[2Jb") and len(plain("b" * 500)) == 160


PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="needs prometheus and promtool"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Story], str]]:
    """Starts a Prometheus over a story, ends it by its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(story: Story) -> str:
        place = tmp_path_factory.mktemp("prometheus")
        (place / "story.om").write_text(open_metrics(story))
        (place / "none.yml").write_text("global: {}\n")
        assert PROMETHEUS is not None and PROMTOOL is not None
        make = [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", "story.om", "data"]
        subprocess.run(make, cwd=place, check=True, capture_output=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        flags = ["--config.file=none.yml", "--storage.tsdb.path=data",
                 "--storage.tsdb.retention.time=100y",
                 f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        with Path(place / "log").open("wb") as log:
            process = subprocess.Popen([PROMETHEUS, *flags], cwd=place, stdout=log, stderr=log)
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            try:
                History(url).look(3600)
            except ConfigError as error:
                if "no metrics at all" in error.message:
                    return url
            time.sleep(0.05)
        raise AssertionError((place / "log").read_text())

    yield start
    for process in started:
        process.terminate()
        process.wait()


@needs_prometheus
def test_a_real_prometheus_tells_the_same(real: Callable[[Story], str], pair: Story) -> None:
    url = real(pair)
    past = History(url, 'job="vllm"').look(SECONDS, end=pair.end)
    check_pair(past, pair, 0.03)
    assert past.notes == ()
    by_context = past.trends["tpot_by_context"]
    assert by_context is not None and by_context.slope == pytest.approx(1e-5, rel=0.03)
    with pytest.raises(ConfigError, match=r'that match job="none"'):
        History(url, 'job="none"').look(SECONDS, end=pair.end)
    with pytest.raises(ConfigError, match="refuses a query"):
        History(url, 'job=~"("').look(SECONDS, end=pair.end)


@needs_prometheus
def test_a_real_prometheus_and_servers_that_restart_or_are_half_up(
    real: Callable[[Story], str],
) -> None:
    story = Story(SECONDS)
    for name in ("a:8000", "b:8000", "c:8000"):
        vllm(story, name)
    true = story.grown("vllm:generation_tokens_total", "a:8000", START, story.end)
    story.restart("a:8000", START + 4000)
    story.gap("b:8000", PEAK - 3600, PEAK + 1200)
    for _, samples in story.of("c:8000"):
        if samples[0][1] >= 1000:
            samples[:] = [(t, v / (1 + n % 2)) for n, (t, v) in enumerate(samples)]
        else:
            samples[100:110] = [(t, math.nan) for t, _ in samples[100:110]]
    past = History(real(story)).look(SECONDS, end=story.end)
    a, b, c = past.replicas
    assert a.restarts == 1 and noted(past, "a:8000 was restarted once")
    assert a.whole.grown["generation_tokens"] == pytest.approx(true, rel=0.03)
    assert b.peak is None and b.share == pytest.approx(1 - 4800 / SECONDS, abs=0.03)
    assert not c.whole.grown and noted(past, "c:8000", "several servers")
    assert noted(past, "NaN")
