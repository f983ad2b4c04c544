"""Repeats together, feasibility that fails closed, and the price of a clause."""

import msgspec
import pytest

from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.instrument.tuner.outcome import (
    best,
    feasible,
    prices,
    trial_result,
    tried,
    violation,
)

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
