"""Values of a run: classes, the SLO's own percentiles, requests that were given up, cost."""

import msgspec
import pytest

from instrument.loadgen.mock_server import MockServer, answer
from sixfold.core.metrics import RequestTrace
from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Outcome
from sixfold.instrument.measure import Job, Subject, measure, values_of
from sixfold.instrument.workloads.presets import parse_workload


def outcome(first: float, slo_class: str = "", ok: bool = True) -> Outcome:
    times = (first, first + 0.1) if ok else ()
    trace = RequestTrace(arrival=0.0, token_times=times, end=first + 0.1, ok=ok)
    return Outcome(trace=trace, session=0, planned=0.0, slo_class=slo_class)


def test_what_was_given_up_is_an_error() -> None:
    values = values_of([outcome(1.0), outcome(1.0, ok=False)], 2, None, None)
    assert values["error_rate"] == 0.75 and values["requests"] == 4
    assert values_of([], 0, None, None)["error_rate"] == 1.0


def test_the_objectives_own_percentiles_are_measured() -> None:
    slo = parse_slo("ttft:p97<10s")
    values = values_of([outcome(n / 100) for n in range(101)], 0, slo, None)
    assert values["ttft:p97"] == pytest.approx(0.97)
    assert slo.judge(values).met


def test_classes_are_judged_by_their_own_objectives() -> None:
    slo = parse_slo("chat/ttft:p95<1s and batch/ttft:p95<10s")
    run = [outcome(0.5, "chat")] * 3 + [outcome(5.0, "batch")] * 3
    values = values_of(run, 0, slo, None)
    assert values["chat/ttft:p95"] == pytest.approx(0.5)
    assert values["batch/ttft:p95"] == pytest.approx(5.0)
    assert slo.judge(values).met
    slow = values_of([*run, outcome(5.0, "chat")], 0, slo, None)
    assert not slo.judge(slow).met
    assert slow["goodput"] == pytest.approx(6 / 5.1)


def test_cost_is_dollars_per_million_output_tokens() -> None:
    values = values_of([outcome(0.9)], 0, None, 3.6)
    # Two tokens in one second at 0.001 $ per second.
    assert values["cost"] == pytest.approx(500.0)


def test_a_point_holds_what_was_seen_beside_the_load() -> None:
    with MockServer(lambda _body, _number: answer("a", "b", "c")) as server:
        job = Job(
            target=Target(url=server.url),
            workload=parse_workload("random:count=4"),
            load=2,
        )
        point, result = measure(job, Subject(engine="mock", model="m"))
        bare, _ = measure(
            msgspec.structs.replace(job, telemetry=False), Subject(engine="mock", model="m")
        )
    assert point.status == "ok" and not result.stopped
    assert any("engine metrics" in note for note in point.telemetry["notes"])
    assert "tpot_by_context" in point.telemetry and "host_cpu_cores" in point.telemetry
    assert set(bare.telemetry) == {"tpot_by_context"}
    assert msgspec.json.decode(msgspec.json.encode(point), type=Point) == point
