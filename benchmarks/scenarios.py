"""Runs the forced scenarios on real engines, and holds the advisor's answers against them.

For each: the first cause named, whether all of several are, and whether it abstains once the signal
that decides is taken away. Writes docs/results/scenarios.json, and every run's signals to
scenarios.jsonl, which the tests diagnose anew. Not here: the scenarios (scenario_cases.py).
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from recording import RESULTS, save
from scenario_cases import CASES, Case, layout_prompts
from servers import serving
from sixfold.core.point import Point
from sixfold.core.record import Measure
from sixfold.core.slo import Slo, parse_slo
from sixfold.instrument.advisor.advice import Advice, of_record, of_windows
from sixfold.instrument.advisor.diagnose import diagnose
from sixfold.instrument.advisor.endpoint import Replica, look
from sixfold.instrument.advisor.signals import Reading, Readings
from sixfold.instrument.advisor.symptoms import table
from sixfold.instrument.advisor.words import lines
from sixfold.instrument.backends.base import Running
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.discover import first_model
from sixfold.instrument.loadgen.arrivals import Arrivals, gamma
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.run import Limits
from sixfold.instrument.measure import Job, Subject, measure, warm_up
from sixfold.instrument.workloads.presets import parse_workload


class Alone(msgspec.Struct, frozen=True):
    """What one request gets alone: seconds."""

    ttft: float
    itl: float
    request: float
    """A request of 40 tokens in, 60 out."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario as it was run: what the tests diagnose anew."""

    name: str
    engine: str
    slo: str
    expected: tuple[str, ...]
    both: tuple[str, ...] = ()
    readings: dict[str, Reading]
    replicas: int = 1
    client: bool = True
    named: tuple[str, ...]
    state: str


def seen_of(a: argparse.Namespace, case: Case, slo: Slo, advice: Advice, replicas: int) -> Seen:
    """Of an advice; more than one replica was looked at from outside, without a client."""
    client = replicas == 1
    if a.show:
        a.show.mkdir(parents=True, exist_ok=True)
        name = case.name.replace(" ", "-").replace(":", "")
        (a.show / f"{name}.txt").write_text("\n".join(lines(advice)) + "\n", encoding="utf-8")
    return Seen(
        name=case.name,
        engine=case.engine,
        slo=str(slo),
        expected=case.expected,
        both=case.both,
        readings=advice.readings,
        replicas=replicas,
        client=client,
        named=tuple(cause.symptom for cause in advice.causes),
        state=advice.state,
    )


def right(seen: Seen) -> bool:
    """Whether the right cause came first, and none on a healthy one."""
    if not seen.expected:
        return seen.state == "healthy"
    return seen.named[:1] != () and seen.named[0] in seen.expected and {*seen.both} <= {*seen.named}


def abstains(seen: Seen) -> list[str]:
    """Decisive signals of the expected cause without which it says something all the same."""
    chosen = next((s for s in table().symptoms if s.id in seen.named[:1]), None)
    failed = []
    for signal in chosen.decisive if chosen else ():
        left: Readings = {k: v for k, v in seen.readings.items() if k != signal}
        found = diagnose(left, parse_slo(seen.slo), seen.engine, replicas=seen.replicas,
                         client=seen.client)  # fmt: skip
        if found.state != "abstained" or found.findings:
            failed.append(signal)
    return failed


def spec_of(a: argparse.Namespace, case: Case) -> EngineSpec:
    """The case's engine."""
    if case.engine == "sixfold":
        return EngineSpec(engine="sixfold", model=a.model, flags=case.flags)
    # One thread: with both cores spinning the client beside it would be the limit.
    flags = {"threads": 1, "cache_ram": 0, **case.flags}
    return EngineSpec(
        engine="llamacpp", model=a.llama_model, executable=a.llama_server, flags=flags
    )


def job_of(case: Case, url: str, slo: Slo | None, load: Arrivals | int, workload: str) -> Job:
    """What is sent."""
    target = Target(url=url, extra={"temperature": 0, "ignore_eos": True})
    target = msgspec.structs.replace(target, model=first_model(target))
    return Job(
        target=target, workload=parse_workload(workload), load=load, slo=slo,
        limits=Limits(seconds=60),
    )  # fmt: skip


def alone(a: argparse.Namespace, engine: str) -> Alone:
    """Measured once an engine: 6 requests, one after the other."""
    flags = {} if engine == "sixfold" else {"parallel": 2, "ctx_size": 4096}
    case = Case(name="alone", engine=engine, flags=flags, workload="")
    with serving(spec_of(a, case)) as running:
        subject = Subject(engine=engine, model=a.model)
        found = []
        for workload in ("random:count=6,input=200,output=40", "random:count=6,input=40,output=60"):
            job = job_of(case, running.url, None, 1, workload)
            warm_up(job)
            found.append(measure(job, subject)[0].values)
    return Alone(found[0]["ttft:p50"], found[0]["itl:p50"], found[1]["e2e:mean"])


def objective(case: Case, base: Alone) -> Slo:
    """The case's multiples as an objective."""
    clauses = []
    if case.ttft:
        clauses.append(f"ttft:p95<{case.ttft * base.ttft * 1000:.3f}ms")
    for name, factor in (("p95", case.itl), ("p99", case.itl_p99)):
        if factor:
            clauses.append(f"itl:{name}<{factor * base.itl * 1000:.3f}ms")
    return parse_slo(";".join(clauses))


@contextmanager
def busy_client(on: bool) -> Iterator[None]:
    """Keeps this interpreter busy beside the load, as a client that does too much would be."""
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            sum(range(20_000))

    threads = [threading.Thread(target=spin, daemon=True) for _ in range(4 if on else 0)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def run_case(a: argparse.Namespace, case: Case, base: Alone, folder: Path) -> Seen:
    """Start, load, advise."""
    slo = objective(case, base)
    spec = spec_of(a, case)
    workload, told = case.workload, {}
    if case.kind == "layout":
        path = folder / f"{case.workload}.jsonl"
        prompts = layout_prompts(case.workload, path)
        workload = f"jsonl:file={path},output=8,holdout=false"
        from sixfold.instrument.workloads.layout import layout_loss

        told = {"layout_loss": Reading(layout_loss(prompts), "derived", "the prompts' layout")}
    load: Arrivals | int = case.load
    if case.rate:
        load = gamma(case.rate / base.request, 0.5 if "bursts" in case.name else 1.0, 0)
    with serving(spec) as running:
        job = job_of(case, running.url, slo, load, workload)
        warm_up(msgspec.structs.replace(job, workload=parse_workload("random:count=8,input=30")))
        if case.kind == "replicas":
            return replicas_case(a, case, job, running)
        with busy_client(case.kind == "client"):
            point = measure(job, subject_of(spec))[0]
    return seen_of(a, case, slo, of_record(point, slo, None, told), 1)


def subject_of(spec: EngineSpec) -> Subject:
    """With the flags, as whoever started it knows them."""
    return Subject(engine=spec.engine, model=Path(spec.model).name, config=dict(spec.flags),
                   command="started here")  # fmt: skip


def replicas_case(a: argparse.Namespace, case: Case, job: Job, first: Running) -> Seen:
    """All load on one of two; both are looked at, as anybody may."""
    assert job.slo is not None
    with serving(spec_of(a, case)) as second:
        done: list[Point] = []
        loading = threading.Thread(
            target=lambda: done.append(measure(job, subject_of(spec_of(a, case)))[0])
        )
        loading.start()
        windows = look([Replica(first.url), Replica(second.url)], 6.0)
        loading.join()
    return seen_of(a, case, job.slo, of_windows(windows, job.slo), len(windows))


def chosen(a: argparse.Namespace) -> list[Case]:
    """Those that can be run here."""
    cases = [case for case in CASES if asked(a, case)]
    return [case for case in cases if case.engine == "sixfold" or a.llama_server]


def keep(a: argparse.Namespace, found: list[Seen], misses: int) -> None:
    """The record, and the signals."""
    with (RESULTS / "scenarios.jsonl").open("wb") as file:
        file.writelines(msgspec.json.encode(one) + b"\n" for one in found)
    faults = [one for one in found if one.expected]
    healthy = [one for one in found if not one.expected]
    rows = {
        "faults": {
            "right cause first": Measure(values=[float(sum(map(right, faults)))], unit="scenarios"),
            "of": Measure(values=[float(len(faults))], unit="scenarios"),
            "spoke without the decisive signal": Measure(values=[float(misses)], unit="times"),
        },
        "healthy": {
            "right cause first": Measure(
                values=[float(sum(map(right, healthy)))], unit="scenarios"
            ),
            "of": Measure(values=[float(len(healthy))], unit="scenarios"),
        },
    }
    engines = sorted({one.engine for one in found})
    save("scenarios", "Forced scenarios: is the right cause named?",
         {"model": a.model, "engines": ", ".join(engines)}, rows,
         "Healthy ones are right where nothing is advised.")  # fmt: skip


def asked(a: argparse.Namespace, case: Case) -> bool:
    """Whether the case is among those that --only names."""
    return any(part in case.name for part in a.only.split(";"))


def arguments(about: str) -> argparse.ArgumentParser:
    """What scripts that force cases ask for: engines, and which cases."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--llama-server", default="", help="directory or program")
    parser.add_argument("--llama-model", default="", help="a .gguf file")
    parser.add_argument(
        "--only", default="", help="cases with this in their names, or one of these: A;B"
    )
    return parser


def main() -> int:
    """Run all, say each, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--show", type=Path, help="a directory for the advice in words")
    parser.add_argument("--record", action="store_true", help="write docs/results/scenarios.*")
    a = parser.parse_args()
    bases: dict[str, Alone] = {}
    found: list[Seen] = []
    misses = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen(a):
            if case.engine not in bases:
                bases[case.engine] = alone(a, case.engine)
                print(f"{case.engine} alone: {bases[case.engine]}", flush=True)
            seen = run_case(a, case, bases[case.engine], Path(folder))
            found.append(seen)
            spoke = abstains(seen) if right(seen) else []
            misses += len(spoke)
            said = ", ".join(seen.named) or seen.state
            mark = "ok  " if right(seen) else "MISS"
            print(f"{mark} {case.name}: {said}" + (f"; spoke without {spoke}" if spoke else ""),
                  flush=True)  # fmt: skip
            if not right(seen):
                print("     " + ", ".join(f"{k}={v.value:.3g}" for k, v in seen.readings.items()))
    print(f"{sum(map(right, found))} of {len(found)} right; spoke too soon {misses} times")
    if a.record:
        keep(a, found, misses)
    return 0


if __name__ == "__main__":
    sys.exit(main())
