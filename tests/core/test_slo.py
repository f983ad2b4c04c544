import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.core.metrics import RequestTrace
from sixfold.core.slo import Clause, Slo, parse_slo


def trace(first: float, ok: bool = True) -> RequestTrace:
    return RequestTrace(arrival=0.0, token_times=(first, first + 0.1), end=first + 0.1, ok=ok)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("ttft:p95<=0.5", Clause("ttft", 95, 0.5)),
        ("ttft_p95<=500ms", Clause("ttft", 95, 0.5)),
        ("tpot <= 50ms", Clause("tpot", 50, 0.05)),
        ("e2e:p99.9<=10s", Clause("e2e", 99.9, 10)),
        ("itl:p100<=.2", Clause("itl", 100, 0.2)),
    ],
)
def test_reads_what_people_write(text: str, clause: Clause) -> None:
    (read,) = parse_slo(text).clauses
    assert (read.metric, read.percent) == (clause.metric, clause.percent)
    assert read.seconds == pytest.approx(clause.seconds)


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft<0.5", "ttft<=", "ttft:p101<=1", "ttft<=-1", ","]
)
def test_refuses_what_it_cannot_read(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_slo(text)


def test_names_the_nearest_metric_and_the_units() -> None:
    with pytest.raises(ConfigError, match="did you mean ttft"):
        parse_slo("tttft<=1")
    with pytest.raises(ConfigError, match="s, ms"):
        parse_slo("ttft<=1minute")


@given(
    st.lists(
        st.builds(
            Clause,
            st.sampled_from(["ttft", "tpot", "itl", "e2e"]),
            st.integers(0, 99).map(float),
            st.integers(0, 1000).map(float),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_printed_can_be_read(clauses: list[Clause]) -> None:
    slo = Slo(tuple(clauses))
    assert parse_slo(str(slo)) == slo


def test_judges_the_percentile_of_the_run() -> None:
    run = [trace(0.1)] * 9 + [trace(2.0)]
    assert parse_slo("ttft:p50<=0.2").met(run)
    assert not parse_slo("ttft:p99<=0.2").met(run)
    assert not parse_slo("ttft:p50<=0.2,ttft:p99<=0.2").met(run)


def test_a_failed_request_or_an_empty_run_breaks_every_objective() -> None:
    slo = parse_slo("ttft:p50<=10")
    assert not slo.met([])
    assert not slo.met([trace(0.1), trace(0.1, ok=False)])
    assert slo.met_by(trace(0.1)) and not slo.met_by(trace(0.1, ok=False))
