"""Records a full grid of real configurations, for scoring searches against it.

Interleaved: each round starts everything once in an order of its own, so that the machine's drift
favours nobody, and makes one repeat, or several in a row; loads and workloads of one server are
measured together. Then the best few are run some more: for the truth that picks are judged by, and
for searches that want to be sure of one. Resumable: more repeats are added to those that are there.
Writes docs/results/grids/NAME.jsonl.gz, a file per workload and load. Not here: scoring
(score_search.py).
"""

import argparse
import random
import sys
from itertools import product
from pathlib import Path

import msgspec

import grids
from making import (
    Planned,
    add_arguments,
    job_of,
    make,
    objective_of,
    planned,
    points_of,
    safe_name,
    spec_of,
    store_path,
)
from recording import RESULTS, ROOT
from sixfold.core.errors import SixfoldError
from sixfold.instrument.backends.flags import check_flags
from sixfold.instrument.backends.grid import parse_grid
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.outcome import config_key, feasible, lower_is_better, tried

LEAST = 60
"""Configurations that a grid has at least; fewer say little about a search."""
SPACES = {
    "sixfold": "max_num_seqs=[2,3,5,12];max_num_batched_tokens=[24,64,160,400];"
    "enable_prefix_caching=[true,false];batching=[continuous,static]",
    "llamacpp": "parallel=[1,3,6,12];ubatch_size=[16,48,128,512];cont_batching=[true,false];"
    "cache_prompt=[true,false]",
}
"""What is tried where nothing else is said: wide steps, as who sweeps by hand takes them."""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("name", type=safe_name, help="of the grid")
    p.add_argument("--space", default="", help="what to try, in place of the engine's own")
    p.add_argument("--repeats", type=int, default=3, help="of each configuration (%(default)s)")
    p.add_argument("--in-a-row", type=int, default=1, metavar="N",
                   help="repeats on one start of a server (%(default)s)")  # fmt: skip
    p.add_argument("--more", type=int, default=0, metavar="N",
                   help="more repeats of the best (%(default)s)")  # fmt: skip
    p.add_argument("--contenders", type=int, default=10, metavar="K",
                   help="how many configurations --more is spent on (%(default)s)")  # fmt: skip
    p.add_argument("--any-size", action="store_true", help=f"allow under {LEAST} configurations")
    p.add_argument("--out", type=Path, default=RESULTS / "grids", help="directory of the files")
    p.add_argument("--also", action="append", default=[], metavar="NAME=WORKLOAD",
                   help="another workload on the same servers: a grid of that name")  # fmt: skip
    add_arguments(p, "chat:count=8,turns=2,output=32", "8")
    return p


def workloads(a: argparse.Namespace) -> dict[str, str]:
    """Grid's name -> workload."""
    found = {a.name: str(a.workload)}
    for text in a.also:
        name, _, workload = text.partition("=")
        if not workload or name in found:
            raise SystemExit(f"--also {text}: give each workload a name of its own, NAME=WORKLOAD")
        found[safe_name(name)] = workload
    return found


def plans(a: argparse.Namespace) -> dict[str, list[Planned]]:
    """For each load, by its file's name, the runs in rounds; equal orders, so that they zip."""
    spec = spec_of(a)
    configs = parse_grid(a.space or SPACES.get(a.engine, ""))
    if len(configs) < LEAST and not a.any_size:
        raise SystemExit(f"{len(configs)} configurations, under {LEAST}: widen --space")
    check_flags(msgspec.structs.replace(spec, flags=spec.flags | configs[0]))
    loads = [int(text) for text in a.concurrency.split(",")]
    found: dict[str, list[Planned]] = {}
    for (called, workload), load in product(workloads(a).items(), loads):
        name = called if len(loads) == 1 else f"{called}-c{load}"
        job, rng = job_of(a, workload, load), random.Random(a.seed)
        found[name] = [
            planned(name, msgspec.structs.replace(spec, flags=spec.flags | config), job, repeat)
            for first in range(0, a.repeats, a.in_a_row)
            for config in rng.sample(configs, len(configs))
            for repeat in range(first, min(first + a.in_a_row, a.repeats))
        ]
    return found


def contended(
    a: argparse.Namespace, plan: dict[str, list[Planned]], store: Store
) -> dict[str, list[Planned]]:
    """Rounds of the best few of each plan, by the means of what was measured."""
    found: dict[str, list[Planned]] = {}
    for name, runs in plan.items():
        slo, objective = runs[0].job.slo, objective_of(a)
        groups = tried(points_of(runs, store))
        able = [one for one in groups if feasible(one, slo) and objective in one.values]
        able.sort(key=lambda one: one.values[objective], reverse=not lower_is_better(objective))
        keys = {one.key for one in able[: a.contenders]}
        first = {config_key(run.trial.spec.flags): run for run in reversed(runs)}
        chosen, rng = [run for key, run in first.items() if key in keys], random.Random(a.seed)
        job = msgspec.structs.replace(runs[0].job, seed=a.seed)
        found[name] = [
            planned(name, run.trial.spec, job, a.repeats + number)
            for number in range(a.more)
            for run in rng.sample(chosen, len(chosen))
        ]
    return found


def interleaved(plan: dict[str, list[Planned]]) -> list[Planned]:
    """All loads of a server before the next server."""
    return [one for row in zip(*plan.values(), strict=True) for one in row]


def main() -> int:
    """Record what is missing, then export."""
    a = parser().parse_args()
    plan = plans(a)
    with Store(store_path(a, a.name, ROOT)) as store:
        if not make(interleaved(plan), store):
            return 130
        more = contended(a, plan, store)
        for runs in more.values():
            if not make(runs, store):
                return 130
        for name, runs in plan.items():
            points = points_of([*runs, *more[name]], store)
            recorded = grids.slim(name, points, runs[0].job.slo, objective_of(a), a.repeats)
            path = a.out / f"{name}.jsonl.gz"
            size = grids.write(recorded, path)
            bad = sum(point.status != "ok" for point in points)
            print(f"{path.name}: {len(points)} runs, {bad} of them failures, {size:,} bytes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SixfoldError as error:
        sys.exit(str(error))
