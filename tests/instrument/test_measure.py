"""Values of a run: classes, the SLO's own percentiles, requests that were given up, cost."""

import msgspec
import pytest

from instrument.loadgen.mock_server import MockServer, answer
from sixfold.core.errors import ConfigError
from sixfold.core.metrics import RequestTrace
from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Outcome
from sixfold.instrument.loadgen.run import Limits
from sixfold.instrument.measure import Job, Subject, check, measure, values_of
from sixfold.instrument.workloads.presets import parse_workload


def outcome(first: float, slo_class: str = "", ok: bool = True) -> Outcome:
    times = (first, first + 0.1) if ok else ()
    trace = RequestTrace(arrival=0.0, token_times=times, end=first + 0.1, ok=ok)
    return Outcome(trace=trace, session=0, planned=0.0, slo_class=slo_class)


def test_what_was_given_up_is_an_error() -> None:
    values = values_of([outcome(1.0), outcome(1.0, ok=False)], {"": 2}, None, None)
    assert values["error_rate"] == 0.75 and values["requests"] == 4
    assert values_of([], {}, None, None)["error_rate"] == 1.0


def test_the_objectives_own_percentiles_are_measured() -> None:
    slo = parse_slo("ttft:p97<10s")
    values = values_of([outcome(n / 100) for n in range(101)], {}, slo, None)
    assert values["ttft:p97"] == pytest.approx(0.97)
    assert slo.judge(values).met


def test_classes_are_judged_by_their_own_objectives() -> None:
    slo = parse_slo("chat/ttft:p95<1s and batch/ttft:p95<10s")
    run = [outcome(0.5, "chat")] * 3 + [outcome(5.0, "batch")] * 3
    values = values_of(run, {}, slo, None)
    assert values["chat/ttft:p95"] == pytest.approx(0.5)
    assert values["batch/ttft:p95"] == pytest.approx(5.0)
    assert slo.judge(values).met
    slow = values_of([*run, outcome(5.0, "chat")], {}, slo, None)
    assert not slo.judge(slow).met
    assert slow["goodput"] == pytest.approx(6 / 5.1)


def test_what_was_given_up_is_an_error_of_its_class() -> None:
    slo = parse_slo("chat/error_rate<=1% and batch/error_rate<=1%")
    values = values_of([outcome(0.5, "chat")], {"chat": 99, "batch": 3}, slo, None)
    assert values["error_rate"] == pytest.approx(102 / 103)
    assert values["chat/error_rate"] == 0.99 and values["chat/requests"] == 100
    assert values["batch/error_rate"] == 1.0, "no request of it ended"
    assert slo.judge(values).verdict == "broken"


def test_a_class_that_the_workload_lacks_is_refused() -> None:
    slo = parse_slo("ttft:p95<1s and chat/ttft:p95<1s")
    plain, named, other = (
        Job(target=Target(url="http://127.0.0.1:9"), workload=parse_workload(w), load=1, slo=slo)
        for w in ("random:count=2", "random:count=2,class=chat", "random:count=2,class=Chat")
    )
    check(named)
    for job, hint in ((plain, "class=NAME"), (other, "it has Chat")):
        for refused in (check, lambda job: measure(job, Subject(engine="mock", model="m"))):
            with pytest.raises(ConfigError, match="no class 'chat'") as caught:
                refused(job)
            assert hint in caught.value.hint


def test_what_a_run_left_is_counted_by_class() -> None:
    with MockServer(lambda _body, _number: answer("a", "b", "c")) as server:
        job = Job(
            target=Target(url=server.url),
            workload=parse_workload("random:count=4,class=a; random:count=4,class=b"),
            load=1,
            limits=Limits(requests=3),
        )
        point, result = measure(job, Subject(engine="mock", model="m"))
    sent = {name: point.values.get(f"{name}/requests", 0) for name in "ab"}
    assert sum(sent.values()) == 3
    assert result.unsent_by_class == {name: 4 - count for name, count in sent.items()}
    assert point.client["unsent"] == 5 and point.client["a/unsent"] == 4 - sent["a"]
    assert point.workload["config"]["parts"][0]["slo_class"] == "a"


def test_prompts_that_are_not_held_out_are_noted(tmp_path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}')
    with MockServer(lambda _body, _number: answer("a", "b", "c")) as server:
        job = Job(
            target=Target(url=server.url),
            workload=parse_workload(f"jsonl:file={path}"),
            load=1,
            telemetry=False,
        )
        point, _ = measure(job, Subject(engine="mock", model="m"))
    assert any("2 of 2 prompts are sent by other seeds" in n for n in point.telemetry["notes"])


def test_cost_is_dollars_per_million_output_tokens() -> None:
    values = values_of([outcome(0.9)], {}, None, 3.6)
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
