"""The recorded scenarios, diagnosed anew: the right cause first, silence without what decides.

Recorded by benchmarks/scenarios.py on real engines under real load.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

import scenarios  # noqa: E402
from scenario_cases import CASES  # noqa: E402
from sixfold.core.slo import parse_slo  # noqa: E402
from sixfold.instrument.advisor.diagnose import diagnose  # noqa: E402
from sixfold.instrument.advisor.symptoms import table  # noqa: E402
from sixfold.instrument.store.lines import read_records  # noqa: E402

FILE = ROOT / "docs" / "results" / "scenarios.jsonl"
SEEN = list(read_records(FILE, scenarios.Seen)) if FILE.exists() else []
needs_record = pytest.mark.skipif(not SEEN, reason="not recorded yet: benchmarks/scenarios.py")


def again(seen: scenarios.Seen) -> scenarios.Seen:
    """By the table as it is now."""
    import msgspec

    found = diagnose(seen.readings, parse_slo(seen.slo), seen.engine, replicas=seen.replicas,
                     client=seen.client)  # fmt: skip
    named = tuple(one.symptom.id for one in found.findings)
    return msgspec.structs.replace(seen, named=named, state=found.state)


@needs_record
def test_there_are_enough_of_each_kind() -> None:
    assert len(SEEN) >= 32
    assert sum(not seen.expected for seen in SEEN) >= 8
    assert {seen.engine for seen in SEEN} == {"sixfold", "llamacpp"}
    assert {seen.name for seen in SEEN} <= {case.name for case in CASES}


@needs_record
def test_the_right_cause_is_named_first() -> None:
    faults = [again(seen) for seen in SEEN if seen.expected]
    missed = [(seen.name, seen.named) for seen in faults if not scenarios.right(seen)]
    assert len(missed) <= 0.15 * len(faults), missed


@needs_record
def test_nothing_is_advised_on_healthy_ones() -> None:
    for seen in map(again, SEEN):
        if not seen.expected:
            assert seen.state == "healthy" and not seen.named, seen.name


@needs_record
def test_without_the_signal_that_decides_it_abstains() -> None:
    for seen in map(again, SEEN):
        if seen.expected and scenarios.right(seen):
            assert scenarios.abstains(seen) == [], seen.name


def test_cases_name_known_symptoms_and_no_case_comes_twice() -> None:
    known = {symptom.id for symptom in table().symptoms}
    for case in CASES:
        assert set(case.expected) | set(case.both) <= known
    assert len({case.name for case in CASES}) == len(CASES)
    assert sum(bool(case.expected) for case in CASES) >= 24
