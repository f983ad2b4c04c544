"""Repeats together, feasibility that fails closed, and the price of a clause."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.point import Point
from sixfold.core.slo import Expression, Slo, all_of, any_of, parse_slo
from sixfold.core.slo_clause import read_clause
from sixfold.instrument.tuner.outcome import (
    best,
    feasible,
    prices,
    trial_result,
    tried,
    violation,
    waived,
)
from sixfold.instrument.tuner.tell import price_words

SLO = parse_slo("ttft:p95<300ms and itl:p95<50ms")


def point(seqs: int, throughput: float, ttft: float, itl: float = 0.01, **fields: object) -> Point:
    base = Point(
        id=f"{seqs}-{throughput}-{ttft}",
        date="2026-01-01T00:00:00Z",
        engine="e",
        model="m",
        config={"max_num_seqs": seqs},
        values={"output_throughput": throughput, "ttft:p95": ttft, "itl:p95": itl},
    )
    return msgspec.structs.replace(base, **fields)  # type: ignore[arg-type]


def test_repeats_are_judged_by_their_means() -> None:
    slow, fast = tried([point(1, 10, 0.4), point(2, 30, 0.1), point(1, 20, 0.1)])
    assert slow.values["output_throughput"] == 15 and len(slow.points) == 2
    assert slow.values["ttft:p95"] == pytest.approx(0.25) and feasible(slow, SLO)
    assert best([slow, fast], SLO, "output_throughput") is fast
    assert best([slow, fast], SLO, "ttft:p95") is fast


def test_a_failed_run_is_never_feasible() -> None:
    """llm-optimizer's D9, at the level of a whole study."""
    broken = point(1, 99, 0.1, id="x", status="out_of_memory", reason="killed", values={})
    (one,) = tried([point(1, 99, 0.1), broken])
    assert one.failed and not feasible(one, None) and one.values == {}
    assert best([one], None, "output_throughput") is None


def test_a_start_that_failed_belongs_to_its_configuration() -> None:
    """It knows no version; a served repeat does. Still they are one configuration."""
    lost = point(1, 0, 9, id="x", status="did_not_start", reason="no", values={})
    served = point(1, 99, 0.1, engine_version="1.0", config={"max_num_seqs": 1})
    other = point(2, 9, 0.1, engine_version="1.0")
    one, two = tried([lost, served, other])
    assert one.points == (lost, served) and not feasible(one, None)
    assert best([one, two], None, "output_throughput") is two
    both = [point(1, 1, 1, config={"a": 1, "b": True}), point(1, 2, 1, config={"b": True, "a": 1})]
    assert len(tried(both)) == 1
    assert len(tried([point(1, 1, 1, config={"a": v}) for v in (1, True, "1")])) == 3


def test_violation_grows_with_the_distance() -> None:
    near, far = point(1, 1, 0.33).values, point(1, 1, 0.6, 0.1).values
    assert violation(far, None) == 0
    assert violation(near, SLO) == pytest.approx(0.1)
    assert violation(far, SLO) == pytest.approx(2.0)
    assert violation({}, SLO) == 2.0


def test_room_left_is_below_zero() -> None:
    assert violation(point(1, 1, 0.1).values, SLO) == pytest.approx(-2 / 3)
    assert violation(point(1, 1, 0.27).values, SLO) == pytest.approx(-0.1)
    assert violation(point(1, 1, 0.1, 0.045).values, SLO) == pytest.approx(-0.1)
    assert violation(point(1, 1, 0.3001).values, SLO) > 0


def test_half_an_alternative_leaves_no_room_and_no_excess() -> None:
    either = parse_slo("ttft:p95<300ms or itl:p95<50ms")
    assert violation(point(1, 1, 0.1, 0.2).values, either) == 0
    assert violation({"ttft:p95": 0.1}, either) == 0
    assert violation(point(1, 1, 0.15, 0.01).values, either) == pytest.approx(-0.5)


def test_a_search_hears_of_scores_room_and_failures() -> None:
    met = trial_result(point(1, 20, 0.15), SLO, "output_throughput")
    assert (met.score, met.violation, met.feasible) == (20, pytest.approx(-0.5), True)
    quick = trial_result(point(1, 20, 0.15), SLO, "ttft:p95")
    assert quick.score == pytest.approx(1 / 0.15)
    nothing = trial_result(point(1, 0, 0.15), SLO, "output_throughput")
    assert (nothing.score, nothing.violation, nothing.feasible) == (None, 1.0, False)
    assert trial_result(point(1, 20, 0.15), SLO, "goodput").failure


def test_the_price_of_each_clause() -> None:
    runs = tried([point(1, 100, 0.2), point(2, 150, 0.5), point(3, 110, 0.2, 0.2)])
    by_clause = {str(p.clause): p for p in prices(runs, SLO, "output_throughput")}
    assert by_clause["ttft:p95<300ms"].without_it == 150
    assert by_clause["ttft:p95<300ms"].share == pytest.approx(1 / 3)
    assert by_clause["itl:p95<50ms"].share == pytest.approx(1 / 11)
    assert prices(runs, None, "output_throughput") == []
    assert prices(runs, parse_slo("ttft:p95<1ms"), "output_throughput") == []


def goodput_point(seqs: int, throughput: float, ttft: float, **values: float) -> Point:
    """Whose goodput is what it is by SLO: nothing, where the time to first token is over."""
    good = throughput / 10 if ttft < 0.3 else 0.0
    made = point(seqs, throughput, ttft)
    return msgspec.structs.replace(made, values=made.values | {"goodput": good} | values)


def test_goodput_is_priced_in_throughput() -> None:
    runs = tried([goodput_point(1, 100, 0.2), goodput_point(2, 200, 0.9)])
    ttft, itl = prices(runs, SLO, "goodput")
    assert (ttft.metric, ttft.with_it, ttft.without_it) == ("output_throughput", 100, 200)
    assert ttft.share == 0.5 and itl.share == 0
    assert price_words(ttft) == (
        "ttft:p95<300ms costs 50% of output_throughput (100 tok/s with it, 200 without)"
    )
    assert price_words(itl).startswith("itl:p95<50ms costs no output_throughput")


def test_goodput_is_priced_in_requests_where_tokens_are_not_known() -> None:
    points = [
        goodput_point(1, 100, 0.2, request_throughput=4.0),
        goodput_point(2, 200, 0.9, request_throughput=5.0),
    ]
    for one in points:
        del one.values["output_throughput"]
    ttft, _ = prices(tried(points), SLO, "goodput")
    assert (ttft.metric, ttft.with_it, ttft.without_it) == ("request_throughput", 4, 5)
    named = [msgspec.structs.replace(p, values={f"chat/{k}": v for k, v in p.values.items()})
             for p in points]  # fmt: skip
    slo = parse_slo("chat/ttft:p95<300ms")
    assert prices(tried(named), slo, "chat/goodput")[0].metric == "chat/request_throughput"
    for one in points:
        del one.values["request_throughput"]
    assert prices(tried(points), SLO, "goodput") == []


def test_either_of_two_clauses_has_a_price_and_no_crash() -> None:
    either = parse_slo("ttft:p95<1s or e2e:p95<10s")
    point_ = point(1, 100, 2.0)
    late = msgspec.structs.replace(point_, values=point_.values | {"e2e:p95": 5.0})
    free = point(2, 400, 9.0)
    found = prices(tried([late, free]), either, "output_throughput")
    assert [str(p.clause) for p in found] == ["ttft:p95<1s", "e2e:p95<10s"]
    assert [p.share for p in found] == [0.75, 0.75], "waive either, and nothing is asked any more"


CLAUSES = [read_clause(t) for t in ("ttft:p95<1s", "itl:p95<50ms", "e2e:p95<10s", "error_rate<1%")]
expressions: st.SearchStrategy[Expression] = st.recursive(
    st.sampled_from(CLAUSES),
    lambda inner: st.lists(inner, min_size=2, max_size=3).flatmap(
        lambda parts: st.sampled_from([all_of(parts), any_of(parts)])
    ),
    max_leaves=6,
)
measured = st.dictionaries(
    st.sampled_from([clause.key for clause in CLAUSES]),
    st.sampled_from([0.0, 0.04, 0.5, 5.0, 50.0]),
)


@given(expressions, st.lists(measured, min_size=1, max_size=5))
def test_a_waived_clause_never_costs_below_nothing(
    expression: Expression, rows: list[dict[str, float]]
) -> None:
    slo = Slo(expression)
    runs = tried(
        point(i, 0, 0, values=row | {"output_throughput": 10.0 + i, "goodput": 50.0 - i})
        for i, row in enumerate(rows)
    )
    met = [one for one in runs if feasible(one, slo)]
    for objective in ("output_throughput", "goodput"):
        found = prices(runs, slo, objective)
        assert [p.clause for p in found] == (list(dict.fromkeys(slo.clauses)) if met else [])
        assert all(p.without_it >= p.with_it for p in found)
    for clause in slo.clauses:
        looser = waived(slo, clause)
        held = {clause.key: 0.0}  # all are bounds from above
        for row in rows:
            kept = looser is None or looser.judge(row).met
            assert kept == slo.judge(row | held).met or _twice(slo, clause.key)


def _twice(slo: Slo, key: str) -> bool:
    """Whether two different clauses bound the same number."""
    return len({clause for clause in slo.clauses if clause.key == key}) > 1
