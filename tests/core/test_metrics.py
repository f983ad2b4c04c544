import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core import metrics
from sixfold.core.metrics import RequestTrace

SECONDS = st.floats(min_value=0, max_value=1e6, allow_nan=False)


def trace(arrival: float, *times: float, end: float | None = None, ok: bool = True) -> RequestTrace:
    last = times[-1] if times else arrival
    return RequestTrace(arrival=arrival, token_times=times, end=last if end is None else end, ok=ok)


def test_definitions_on_a_worked_example() -> None:
    one = trace(10.0, 10.5, 10.6, 10.9, end=11.0)
    assert metrics.ttft(one) == pytest.approx(0.5)
    assert metrics.tpot(one) == pytest.approx(0.2)
    assert metrics.itl(one) == pytest.approx([0.1, 0.3])
    assert metrics.e2e(one) == pytest.approx(1.0)
    assert metrics.queue(one) is None


def test_what_has_no_value_is_none_and_not_zero() -> None:
    assert metrics.ttft(trace(0.0, end=1.0)) is None
    assert metrics.tpot(trace(0.0, 1.0)) is None
    assert metrics.itl(trace(0.0, 1.0)) == []
    assert metrics.spread([None]).count == 0


def test_queue_time_needs_the_engines_word() -> None:
    scheduled = RequestTrace(arrival=1.0, end=3.0, scheduled=1.25)
    assert metrics.queue(scheduled) == 0.25


@given(st.lists(SECONDS, min_size=1, max_size=40), st.floats(min_value=0, max_value=100))
def test_percentile_is_within_the_values_and_exact_at_the_ends(
    values: list[float], percent: float
) -> None:
    assert min(values) <= metrics.percentile(values, percent) <= max(values)
    assert metrics.percentile(values, 0) == min(values)
    assert metrics.percentile(values, 100) == max(values)


def test_percentile_interpolates_like_numpy() -> None:
    assert metrics.percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert metrics.percentile([1.0, 2.0, 3.0, 4.0, 5.0], 95) == pytest.approx(4.8)


def test_failed_requests_count_for_nothing_but_their_time() -> None:
    run = [trace(0.0, 1.0, 2.0), trace(0.0, 1.0, end=4.0, ok=False)]
    assert metrics.output_throughput(run) == pytest.approx(2 / 4)
    assert metrics.request_throughput(run) == pytest.approx(1 / 4)
    assert metrics.summarise(run).failed == 1


def test_goodput_counts_requests_that_meet_the_objective() -> None:
    run = [trace(0.0, 0.1, end=2.0), trace(0.0, 1.5, end=2.0)]
    quick = metrics.goodput(run, lambda t: (metrics.ttft(t) or 0) <= 1.0)
    assert quick == pytest.approx(0.5)
    assert quick <= metrics.request_throughput(run)


def test_an_empty_run_is_zero_everywhere() -> None:
    empty = metrics.summarise([])
    assert (empty.requests, empty.seconds, empty.tokens_per_second) == (0, 0.0, 0.0)


@given(st.lists(SECONDS, min_size=2, max_size=40))
def test_tpot_is_the_mean_of_itl(times: list[float]) -> None:
    one = trace(0.0, *sorted(times))
    gaps = metrics.itl(one)
    assert metrics.tpot(one) == pytest.approx(sum(gaps) / len(gaps), abs=1e-6)
