"""One point: a workload sent to a running server, warmed up first, summed up with provenance.

The same for every engine. Not here: starting engines (backends), choosing what to run (tuner),
the load itself (loadgen).
"""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.metrics import percentile
from sixfold.core.point import Point, Status
from sixfold.core.record import Machine, cpu_model, git_state, memory_gb, system, versions
from sixfold.core.slo import Slo
from sixfold.core.slo_clause import statistic
from sixfold.instrument.loadgen.arrivals import Arrivals, arrival_times
from sixfold.instrument.loadgen.by_context import tpot_by_context
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Outcome, Session
from sixfold.instrument.loadgen.report import LATENCIES, report
from sixfold.instrument.loadgen.run import Limits, LoadResult, Progress, run_load
from sixfold.instrument.telemetry.sampler import Telemetry, canonical_values, probes_for
from sixfold.instrument.telemetry.series import Probe
from sixfold.instrument.workloads.fingerprint import Fingerprint, fingerprint
from sixfold.instrument.workloads.holdout import WARM
from sixfold.instrument.workloads.presets import Workload

WARM_SESSIONS = 4
WARM_ROUNDS = 6
SETTLED = 0.1
"""Warm-up is over when a round's median latency is within this part of the round before."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. `load` is an arrival process, or a number of sessions at once."""

    target: Target
    workload: Workload
    load: Arrivals | int
    seed: int = 0
    slo: Slo | None = None
    limits: Limits = Limits()
    price_per_hour: float | None = None
    """$ per hour of all that serves; without it there is no cost."""
    allow_remote: bool = False
    telemetry: bool = True
    """Read the engine's metrics page, the machine and its GPUs beside the load."""
    gpu_metrics_url: str = ""
    """DCGM exporter's page; without it the local one, or NVML, is tried."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, as far as it is known: fields of the point."""

    engine: str
    model: str
    engine_version: str = ""
    config: dict[str, Any] = {}
    command: str = ""
    strategies: tuple[str, ...] = ()
    hardware: str = ""
    study: str = ""
    repeat: int = 0


def check(job: Job) -> None:
    """Refuse before anything runs what could never be judged. Raises ConfigError."""
    _check_price(job)
    if job.slo and any(clause.slo_class for clause in job.slo.clauses):
        _check_classes(job.slo, job.workload.build(job.seed))


def _check_price(job: Job) -> None:
    wanted = job.slo.keys() if job.slo else ()
    if job.price_per_hour is None and any(key.rpartition("/")[2] == "cost" for key in wanted):
        raise ConfigError(
            "the objective bounds cost, but no price is known", "give --price-per-hour"
        )


def _check_classes(slo: Slo, sessions: Sequence[Session]) -> None:
    known = {session.slo_class for session in sessions} - {""}
    for clause in slo.clauses:
        if clause.slo_class and clause.slo_class not in known:
            have = f"it has {', '.join(sorted(known))}" if known else "name them with class=NAME"
            raise ConfigError(f"{clause}: the workload has no class {clause.slo_class!r}", have)


def measure(
    job: Job, subject: Subject, progress: Callable[[Progress], None] | None = None
) -> tuple[Point, LoadResult]:
    """Run the job once; the point and all that it is made of. Raises ConfigError as `run_load`."""
    _check_price(job)
    sessions = job.workload.build(job.seed)
    if job.slo:
        _check_classes(job.slo, sessions)
    shape = fingerprint(sessions, _times(job.load, sessions))
    date = _now()
    beside = Telemetry(_probes(job))
    with beside:
        result = run_load(
            job.target,
            sessions,
            job.load,
            limits=job.limits,
            allow_remote=job.allow_remote,
            progress=progress,
        )
    point = _point(job, subject, shape, result, date)
    seen = beside.summary()
    if shared := job.workload.not_held_out(job.seed):
        seen["notes"] = [*seen.get("notes", []), shared]
    slowed = tpot_by_context([outcome.trace for outcome in result.outcomes])
    return msgspec.structs.replace(
        point,
        values=canonical_values(seen) | point.values,
        telemetry=seen | ({"tpot_by_context": slowed} if slowed else {}),
    ), result


def _probes(job: Job) -> list[Probe]:
    """None for a server that we may not ask: run_load says so."""
    if not job.telemetry or not (job.target.loopback or job.allow_remote):
        return []
    return probes_for(job.target.url, local=job.target.loopback, gpu_url=job.gpu_metrics_url)


def warm_up(job: Job) -> int:
    """Send small rounds of the workload, with prompts of their own, until latencies settle.

    The number of rounds. Raises ConfigError if the first round fails altogether: then the address,
    the model's name or the request's form is wrong.
    """
    before = 0.0
    for number in range(WARM_ROUNDS):
        sessions = job.workload.build(_warm_seed(job.seed, number))[:WARM_SESSIONS]
        result = run_load(
            job.target,
            [msgspec.structs.replace(s, turns=s.turns[:1], at=None) for s in sessions],
            WARM_SESSIONS,
            limits=job.limits,
            allow_remote=job.allow_remote,
        )
        good = [o.trace for o in result.outcomes if o.trace.ok]
        if not good:
            error = result.outcomes[0].error if result.outcomes else "no request was answered"
            raise ConfigError(f"{job.target.url} fails: {error}", "is it the right URL and model?")
        now = percentile([t.end - t.arrival for t in good], 50)
        if abs(now - before) <= SETTLED * now:
            return number + 1
        before = now
    return WARM_ROUNDS


def values_of(
    outcomes: Sequence[Outcome],
    unfinished: Mapping[str, int],
    slo: Slo | None,
    price_per_hour: float | None,
) -> dict[str, float]:
    """All metrics of a run: for all requests, for each class ("chat/..."), as the SLO names them.

    `unfinished`: by class, requests that were given up. They count as errors: a server that is late
    with them did not serve them.
    """
    values = _values(outcomes, sum(unfinished.values()), slo, "")
    for name in sorted(({outcome.slo_class for outcome in outcomes} | set(unfinished)) - {""}):
        own = [outcome for outcome in outcomes if outcome.slo_class == name]
        found = _values(own, unfinished.get(name, 0), slo, name)
        values |= {f"{name}/{key}": v for key, v in found.items()}
    tokens = values.get("output_throughput", 0.0)
    if price_per_hour is not None and tokens > 0:
        values["cost"] = price_per_hour / 3600 / tokens * 1e6
    return values


def _values(
    outcomes: Sequence[Outcome], unfinished: int, slo: Slo | None, name: str
) -> dict[str, float]:
    meets = None if slo is None else (lambda o: slo.met_by(o.trace, o.slo_class))
    values = report(outcomes, meets)
    total = len(outcomes) + unfinished
    failed = sum(not outcome.trace.ok for outcome in outcomes) + unfinished
    values |= {"error_rate": failed / total if total else 1.0, "requests": float(total)}
    traces = [outcome.trace for outcome in outcomes if outcome.trace.ok]
    for clause in slo.clauses if slo else ():
        key = clause.key.rpartition("/")[2]
        if clause.slo_class == name and key not in values and clause.metric in LATENCIES:
            known = [v for v in LATENCIES[clause.metric](traces) if v is not None]
            if known:
                values[key] = statistic(known, clause.stat)
    return values


def hardware() -> str:
    """This machine's CPU and its usable threads, as a point names them."""
    return f"{cpu_model()} x{_threads()}"


def describe_load(load: Arrivals | int) -> dict[str, Any]:
    """The offered load as a point holds it."""
    if isinstance(load, int):
        return {"concurrency": load}
    fields = msgspec.structs.asdict(load)
    shown = {
        "gamma": ("rate", "burstiness"),
        "constant": ("rate",),
        "ramp": ("rate", "rate_to", "seconds"),
        "trace": ("speedup",),
    }[load.kind]
    return {"arrivals": load.kind} | {name: fields[name] for name in shown}


def describe_workload(workload: Workload) -> dict[str, Any]:
    """What is sent, as a point holds it."""
    config = msgspec.to_builtins(workload.config)
    named = {"class": workload.slo_class} if workload.slo_class else {}
    return {"name": workload.name, "config": config} | named


def failed_point(job: Job, subject: Subject, status: Status, reason: str) -> Point:
    """The point of a run that never began, such as that of a server that did not start."""
    return _born(job, subject, status=status, reason=reason, date=_now())


def _point(job: Job, subject: Subject, shape: Fingerprint, result: LoadResult, date: str) -> Point:
    served = any(outcome.trace.ok for outcome in result.outcomes)
    errors = [o.error for o in result.outcomes if o.error] or ["no request was answered"]
    return _born(
        job,
        subject,
        date=date,
        status="ok" if served else "failed",
        reason="" if served else errors[0],
        fingerprint=msgspec.to_builtins(shape),
        values=values_of(result.outcomes, result.unfinished_by_class, job.slo, job.price_per_hour),
        client=msgspec.to_builtins(result.health) | _cut_short(result),
    )


def _cut_short(result: LoadResult) -> dict[str, Any]:
    """What ended the run, and the requests that it left, all and by class."""
    found: dict[str, Any] = {"stopped": result.stopped}
    for what, by_class in (
        ("unfinished", result.unfinished_by_class),
        ("unsent", result.unsent_by_class),
    ):
        found[what] = sum(by_class.values())
        found |= {f"{name}/{what}": count for name, count in by_class.items() if name}
    return found


def _born(job: Job, subject: Subject, **fields: Any) -> Point:
    """A point with its provenance."""
    commit, dirty = _checkout()
    return Point(
        id=uuid.uuid4().hex,
        **msgspec.structs.asdict(subject) | {"hardware": subject.hardware or hardware()},
        workload=describe_workload(job.workload),
        load=describe_load(job.load),
        seed=job.seed,
        commit=commit,
        dirty=dirty,
        machine=_machine(),
        versions=versions(),
        **fields,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> Machine:
    return Machine(cpu=cpu_model(), threads=_threads(), memory_gb=memory_gb(), system=system())


def _threads() -> int:
    affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1


def _checkout() -> tuple[str, bool]:
    """The commit of this code where it runs from a checkout; an installed wheel has its version."""
    root = Path(__file__).resolve().parents[3]
    return git_state(root) if (root / ".git").exists() else ("", False)


def _times(load: Arrivals | int, sessions: Sequence[Session]) -> list[float]:
    if isinstance(load, int):
        return []
    if load.kind == "trace" and not load.trace:
        return sorted((s.at or 0.0) / load.speedup for s in sessions)
    return arrival_times(load, len(sessions))


def _warm_seed(seed: int, number: int) -> int:
    """Far from the seeds that people and sweeps choose."""
    return WARM + (seed << 8) + number
