"""What is recommended when the finals disagree with the tuning: calls, objectives, failures."""

from typing import Literal

import msgspec
import pytest

from sixfold.core.point import Point
from sixfold.core.slo import Slo, parse_slo
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job
from sixfold.instrument.tuner.advice import advise
from sixfold.instrument.tuner.outcome import Tried
from sixfold.instrument.tuner.tell import engines_table, verdict_lines
from sixfold.instrument.tuner.tune import Found
from sixfold.instrument.tuner.verdict import Comparison
from sixfold.instrument.workloads.presets import parse_workload

SLO = parse_slo("ttft:p95<1s")
JOB = Job(
    target=Target(url="http://127.0.0.1:1"), workload=parse_workload("random"), load=4, slo=SLO
)
Call = Literal["GAIN", "NO GAIN", "WORSE", "INCONCLUSIVE"]


def points(name: str, ttft: float, goodput: float = 5.0, lost: str = "") -> tuple[Point, ...]:
    """Two runs; the second is lost, for that reason."""
    good = Point(
        id=name, date="2026-01-01T00:00:00Z", engine="e", model="m", config={"name": name},
        command=f"serve {name}", values={"ttft:p95": ttft, "goodput": goodput},
    )  # fmt: skip
    bad = msgspec.structs.replace(good, status="failed", reason=lost, values={}) if lost else good
    return (good, bad)


def found(call: Call | None, ours: float = 0.5, theirs: float = 0.5, lost: str = "") -> Found:
    """A winner by tuning, and the TTFT of both in the finals."""
    comparison = Comparison(call, 1.5, 1.1, 1.9, 3, 0.01, True) if call else None
    return Found(
        baseline=Tried(key="a", points=points("default", 0.4)),
        winner=Tried(key="b", points=points("other", 0.4, 7.0)),
        final_baseline=points("default", ours, 5.5),
        final_winner=points("other", theirs, 6.5, lost),
        comparison=comparison,
        runs=9,
        resumed=0,
        configurations=3,
    )


def said(one: Found, slo: Slo | None = SLO) -> str:
    job = msgspec.structs.replace(JOB, slo=slo)
    return "\n".join(verdict_lines(one, job, "goodput", 12))


def test_a_gain_that_keeps_the_objectives_is_recommended() -> None:
    text = said(found("GAIN"))
    assert "run it with:\n  serve other" in text and "recommended: the best" in text
    rows = [line.split("  ")[0] for line in text.splitlines()]
    wanted = ["defaults", "best", "defaults, new prompts", "best, new prompts"]
    assert [row for row in rows if row in wanted] == wanted
    assert "6.5" in text and "7" in text, "values of the finals beside those of the tuning"


@pytest.mark.parametrize("call", ["WORSE", "NO GAIN", "INCONCLUSIVE", None])
@pytest.mark.parametrize("slo", [SLO, None])
def test_without_a_gain_the_defaults_are(call: Call | None, slo: Slo | None) -> None:
    one = found(call)
    assert advise(one, slo).chosen is one.baseline
    text = said(one, slo)
    assert "run it with:\n  serve default" in text and "serve other" not in text
    assert "recommended: the defaults" in text and (call or "INCONCLUSIVE") in text
    assert "candidate, new prompts" in text and "best" not in text


def test_a_winner_that_breaks_the_objectives_in_the_finals_is_not() -> None:
    one = found("GAIN", theirs=1.5)
    assert advise(one, SLO).chosen is one.baseline
    text = said(one)
    assert "the candidate broke ttft:p95<1s" in text and "serve other" not in text
    assert advise(one, None).chosen is one.winner, "nothing was asked of it"


def test_nor_one_that_failed_in_them() -> None:
    one = found("GAIN", lost="killed")
    assert advise(one, None).chosen is one.baseline
    assert "the candidate failed in 1 of 2 runs: killed" in said(one)


@pytest.mark.parametrize("call", ["WORSE", "NO GAIN", None])
def test_where_the_defaults_break_them_the_winner_is(call: Call | None) -> None:
    one = found(call, ours=1.5)
    advice = advise(one, SLO)
    assert advice.chosen is one.winner and advice.name == "best"
    assert "the defaults broke ttft:p95<1s" in said(one)


def test_where_both_do_nothing_is() -> None:
    one = found("GAIN", ours=1.5, theirs=1.5)
    assert advise(one, SLO).chosen is None
    text = said(one)
    assert "recommended: nothing" in text and "run it with" not in text
    assert engines_table({"e": one}, SLO, "goodput") == "no engine meets the objectives"


def test_engines_are_compared_by_what_is_recommended() -> None:
    text = engines_table({"a": found("GAIN"), "b": found("WORSE")}, SLO, "goodput")
    assert "a (best)" in text and "6.5" in text and "b (defaults)" in text and "5.5" in text


def test_without_finals_there_is_the_baseline_or_nothing() -> None:
    baseline = Tried(key="a", points=points("default", 0.4))
    base = Found(baseline=baseline, winner=baseline, runs=3, resumed=0, configurations=1)
    assert advise(base, SLO).chosen is baseline
    assert advise(msgspec.structs.replace(base, winner=None), SLO).chosen is None
