"""Where the steps' time goes, by the counters of a metrics page."""

import pytest

from instrument.advisor.pages import server
from sixfold.core.errors import ConfigError
from sixfold.core.metrics import EngineStats
from sixfold.instrument.telemetry.step_profile import profile_lines, read_counters
from sixfold.serving.server.metrics import ServerMetrics

PARTS = {"gemm": 2.0, "attention": 0.5, "wait": 0.25, "python": 0.25}


def stats(times: int) -> EngineStats:
    seconds = {part: times * each for part, each in PARTS.items()}
    return EngineStats(num_steps=100 * times, step_seconds=seconds)


def test_a_table_of_what_happened_between_two_looks() -> None:
    metrics = ServerMetrics("m")

    def answer(path: str, n: int) -> tuple[int, bytes]:
        return (200, metrics.render(stats(n), 0)) if path == "/metrics" else (404, b"")

    with server(answer) as url:
        before, after = read_counters(url), read_counters(f"{url}/v1")
    assert before.seconds == PARTS and after.steps == 200
    first, *parts = profile_lines(before, after)
    assert first == "100 steps of 30 ms while there was work:"
    assert parts[0].split() == ["linear", "layers", "66.7%", "20.000", "ms"]
    assert len(parts) == len(PARTS)
    assert profile_lines(after, after) == ["no step was run"]


def test_an_engine_that_starts_anew_takes_nothing_back() -> None:
    metrics = ServerMetrics("m")
    metrics.render(stats(3), 0)
    page = metrics.render(stats(1), 1).decode()
    assert 'sixfold:step_seconds_total{model_name="m",part="gemm"} 8.0' in page
    assert 'sixfold:steps_total{model_name="m"} 400.0' in page


@pytest.mark.parametrize("page", [b"", b"vllm:prompt_tokens_total 3\n"])
def test_others_tell_nothing_and_that_is_said(page: bytes) -> None:
    with server(lambda _path, _n: (200, page)) as url, pytest.raises(ConfigError, match="has no"):
        read_counters(url)
    with pytest.raises(ConfigError, match="does not answer"):
        read_counters("http://127.0.0.1:1")
