import pytest

from sixfold.core.metrics import RequestTrace, percentile
from sixfold.core.slo import parse_slo
from sixfold.core.slo_clause import statistic


def trace(*token_times: float, end: float = 1.0, ok: bool = True) -> RequestTrace:
    return RequestTrace(arrival=0.0, token_times=token_times, end=end, ok=ok)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ttft:p95<=100ms", True),
        ("ttft:p95<100ms", False),
        ("tpot<=200ms;e2e<=1s", True),
        ("e2e<1s", False),
        ("itl:max<=300ms", True),
        ("itl:max<=200ms", False),
        ("itl:min<=100ms", True),
        ("itl:p50<=150ms;itl:p50>=50ms", False),
        ("itl:mean<=201ms", True),
        ("queue<1us", True),
        ("goodput>=1000;error_rate<=0;cost<0$", True),
        ("ttft<1ms or goodput>=1", False),
        ("ttft<1ms or itl:max<1s", True),
        ("ttft<1s;(itl<1ms or e2e<2s)", True),
    ],
)
def test_one_request_keeps_the_clauses_on_latencies(text: str, kept: bool) -> None:
    request = trace(0.1, 0.2, 0.5, end=1.0)
    assert parse_slo(text).met_by(request) is kept


def test_a_failed_request_keeps_nothing() -> None:
    assert not parse_slo("ttft<1s").met_by(trace(0.1, ok=False))
    assert not parse_slo("goodput>=1").met_by(trace(0.1, ok=False))


def test_a_quantity_that_a_request_lacks_does_not_break_it() -> None:
    assert parse_slo("tpot<1us;itl<1us;queue<1us").met_by(trace(0.1))
    # Nor does it excuse the request from the rest.
    assert not parse_slo("tpot<1us or e2e<500ms").met_by(trace(0.1, end=1.0))


def test_queue_time_is_judged_where_it_is_known() -> None:
    waited = RequestTrace(arrival=1.0, scheduled=1.5, end=2.0)
    assert parse_slo("queue<=500ms").met_by(waited)
    assert not parse_slo("queue<500ms").met_by(waited)


def test_another_class_s_clauses_are_ignored() -> None:
    slo = parse_slo("chat/ttft<1ms;batch/e2e<1m;itl<1s")
    assert not slo.met_by(trace(0.1), "chat")
    assert slo.met_by(trace(0.1), "batch")
    assert slo.met_by(trace(0.1))
    assert not parse_slo("ttft<1ms").met_by(trace(0.1), "chat")


def test_statistics() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    assert [statistic(values, stat) for stat in ("mean", "max", "min", "p50")] == [4, 10, 1, 2.5]
    assert statistic(values, "p99.9") == percentile(values, 99.9)
