"""Records a full grid of real configurations, for scoring searches against it.

Interleaved: each round makes one repeat of everything in an order of its own, so that the machine's
drift favours nobody; loads and workloads of one server are measured together. Resumable. Writes
docs/results/grids/NAME.jsonl.gz, a file per workload and load. Not here: scoring (score_search.py).
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

LEAST = 60
"""Configurations that a grid has at least; fewer say little about a search."""
SPACES = {
    "sixfold": "max_num_seqs=[2,4,6,8];max_num_batched_tokens=[32,64,128,256];"
    "enable_prefix_caching=[true,false];num_threads=[1,2]",
    "llamacpp": "parallel=[2,4,6,8];ubatch_size=[32,64,128,256];flash_attn=[on,off];threads=[1,2]",
}
"""What is tried where nothing else is said."""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("name", type=safe_name, help="of the grid")
    p.add_argument("--space", default="", help="what to try, in place of the engine's own")
    p.add_argument("--repeats", type=int, default=3, help="rounds (%(default)s)")
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
            for repeat in range(a.repeats)
            for config in rng.sample(configs, len(configs))
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
        for name, runs in plan.items():
            points = points_of(runs, store)
            recorded = grids.slim(name, points, runs[0].job.slo, objective_of(a))
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
