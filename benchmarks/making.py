"""Makes planned runs one after the other on servers, into a store: resumable, with an ETA.

Equal plans have equal ids, so that what the store has is not run again. Not here: what is planned
(record_grid.py, power.py).
"""

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import msgspec

from sixfold.core.errors import SixfoldError
from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.instrument.backends.flags import check_flags
from sixfold.instrument.backends.grid import parse_grid
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.run import Limits
from sixfold.instrument.measure import Job, check
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.runner import PlannedRun, Runner
from sixfold.instrument.workloads.presets import parse_workload


class Planned(NamedTuple):
    """One run to make."""

    trial: PlannedRun
    job: Job

    @property
    def id(self) -> str:
        """Of its point."""
        return self.trial.id(self.job)


def add_arguments(parser: argparse.ArgumentParser, workload: str, concurrency: str) -> None:
    """What is served and sent."""
    add = parser.add_argument
    add("--model", default="smollm2-135m", help="as the engine takes it (%(default)s)")
    add("--engine", default="sixfold", help="(%(default)s)")
    add("--executable", default="", help="the engine's program, where it is not ours")
    add("--flags", default="", metavar="K=V;K=V", help="fixed flags of every server")
    add("--workload", default=workload, help="(%(default)s)")
    add("--concurrency", default=concurrency, help="sessions at once (%(default)s)")
    add("--slo", default="", help='objectives: "ttft:p95<500ms;itl:p95<50ms"')
    add("--objective", default="", help="goodput, or output_throughput without --slo")
    add("--seed", type=int, default=0)
    add("--store", default="", metavar="FILE", help="default: build/NAME.db")


def spec_of(a: argparse.Namespace) -> EngineSpec:
    """The engine with its fixed flags, which are checked."""
    flags = parse_grid(a.flags)[0]
    spec = EngineSpec(engine=a.engine, model=a.model, executable=a.executable, flags=flags)
    check_flags(spec)
    return spec


def job_of(a: argparse.Namespace, workload: str, concurrency: int) -> Job:
    """A workload under one load."""
    job = Job(
        target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
        workload=parse_workload(workload),
        load=concurrency,
        seed=a.seed,
        slo=parse_slo(a.slo) if a.slo else None,
        limits=Limits(seconds=600),
    )
    check(job)
    return job


def objective_of(a: argparse.Namespace) -> str:
    """The metric's key that counts."""
    return str(a.objective or ("goodput" if a.slo else "output_throughput"))


def planned(study: str, spec: EngineSpec, job: Job, repeat: int) -> Planned:
    """The n-th repeat, with prompts of its own, which all configurations share."""
    trial = PlannedRun(study=study, spec=spec, repeat=repeat)
    return Planned(trial, msgspec.structs.replace(job, seed=job.seed + repeat))


def make(plan: Sequence[Planned], store: Store, restart: bool = False) -> bool:
    """Make what the store lacks; False if Ctrl-C ended it before the last.

    `restart`: a new server for every run, as where two configurations take turns.
    """
    have = {one for study in {p.trial.study for p in plan} for one in store.ids(study)}
    left = [one for one in plan if one.id not in have]
    print(f"{len(plan)} runs, {len(plan) - len(left)} of them in {store.path.name}", flush=True)
    try:
        _make(left, store, restart, new=len(left) == len(plan))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", flush=True)
        return False
    return True


def _make(left: Sequence[Planned], store: Store, restart: bool, new: bool) -> None:
    """Raises SixfoldError if the first run of all serves nothing: then the arguments are wrong."""
    took: list[float] = []
    with Runner(store.path.resolve().parent / "sixfold-logs", lambda _text: None, None) as runner:
        for number, one in enumerate(left, 1):
            began = time.monotonic()
            point = runner.run(one.trial, one.job)
            if new and number == 1 and point.status == "failed":
                raise SixfoldError(point.reason)
            store.append([point])
            if restart:
                runner.close()
            took.append(time.monotonic() - began)
            eta = fmean(took[-40:]) * (len(left) - number) / 60
            when = f"{took[-1]:.1f} s, {eta:.0f} min left"
            print(f"[{number}/{len(left)}] {when}: {_said(point)}", flush=True)


def points_of(plan: Sequence[Planned], store: Store) -> list[Point]:
    """The plan's points in the order of measuring. Others of the same study are left out."""
    ids = {one.id for one in plan}
    return [point for _, point in store.points() if point.id in ids]


def safe_name(text: str) -> str:
    """A name for a file, checked."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no plain name")
    return text


def store_path(a: argparse.Namespace, name: str, root: Path) -> Path:
    """The store to use."""
    return Path(a.store) if a.store else root / "build" / f"{name}.db"


def _said(point: Point) -> str:
    flags = " ".join(f"{name}={value}" for name, value in point.config.items())
    tokens = point.values.get("output_throughput")
    outcome = f"{tokens:.1f} tok/s" if tokens is not None else point.status
    return f"{flags} #{point.repeat}: {outcome}"
