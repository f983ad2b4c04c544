"""`sixfold tune`: find the configuration that serves a workload best under objectives."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sixfold.cli.bench import add_load, first_load, progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from sixfold.core.point import Point
    from sixfold.instrument.backends.spec import EngineSpec, Scalar
    from sixfold.instrument.measure import Job
    from sixfold.instrument.store.store import Store
    from sixfold.instrument.tuner.trial import Tuner
    from sixfold.instrument.tuner.tune import Found, MakeTuner

EXAMPLES = """examples:
  sixfold tune smollm2-135m --workload chat:count=8 --slo "ttft:p95<1s;itl:p95<100ms" --budget 5m
  sixfold tune smollm2-135m --engine sixfold,llamacpp --executable llamacpp=./llama-server \\
      --model-for llamacpp=model.gguf --rate 4 --slo preset:chat@llm-d-planner --store tune.db
  sixfold tune smollm2-135m --rate 2 --slo "ttft:p95<1s" --find-load
  sixfold tune smollm2-135m --space "max_num_seqs=[4,16];max_num_batched_tokens=[128,512]" --dry-run

Run it again with the same arguments after a stop or a kill: it goes on where it was.
Lossy settings (weights or KV in fewer bits) are only tried with --allow-lossy."""

NOTHING_FEASIBLE = 3
SEARCHES = ("auto", "halving", "random", "grid", "tpe")


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = argparse.ArgumentParser(
        prog="sixfold tune",
        description="Search an engine's settings for the best objective under an SLO.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", help="a name, a directory or a file, as the engine takes it")
    p.add_argument("--engine", default="sixfold", help="engines, by commas (%(default)s)")
    p.add_argument("--executable", action="append", default=[], metavar="ENGINE=PATH")
    p.add_argument("--model-for", action="append", default=[], metavar="ENGINE=MODEL")
    p.add_argument("--flags", action="append", default=[], metavar="ENGINE:K=V;K=V",
                   help="fixed flags, part of the baseline")  # fmt: skip
    p.add_argument("--space", help="what to try, in place of the engine's own space")
    p.add_argument("--allow-lossy", action="store_true", help="try lossy settings, too")
    p.add_argument("--workload", default="chat:count=8,turns=2,output=32", help="(%(default)s)")
    add_load(p)
    p.add_argument("--slo", help='objectives: "ttft:p95<500ms;itl:p95<50ms" or preset:NAME')
    p.add_argument("--objective", default="", help="metric to make best (goodput, or "
                   "output_throughput without --slo)")  # fmt: skip
    p.add_argument("--budget", default="5m", help="time for it all: 90s, 20m, 2h (%(default)s)")
    p.add_argument("--runs", type=int, help="most runs of the search (half the grid)")
    p.add_argument("--search", choices=SEARCHES, default="auto",
                   help="tpe is Optuna's: pip install 'sixfold[tune]' (%(default)s)")  # fmt: skip
    p.add_argument("--find-load", action="store_true",
                   help="then, beyond the budget, find the highest load that meets --slo, "
                   "of the defaults and of the best")  # fmt: skip
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--study", default="", help="its name in the store (made of the arguments)")
    p.add_argument("--store", default="sixfold-tune.db", metavar="FILE", help="(%(default)s)")
    p.add_argument("--explorer", metavar="FILE", help="write an offline page of all points")
    p.add_argument("--live", action="store_true",
                   help="serve a page, here only, that shows points as they come")  # fmt: skip
    p.add_argument("--dry-run", action="store_true", help="say what would be tried, and end")
    return p


def run(argv: list[str]) -> int:
    """Tune each engine in turn, then compare."""
    a = parser().parse_args(argv)
    from pathlib import Path

    from sixfold.instrument.store.follow import under_way
    from sixfold.instrument.store.store import Store
    from sixfold.instrument.tuner.advice import advise
    from sixfold.instrument.tuner.capacity import check_capacity

    plans = [(spec, _space(a, spec.engine)) for spec in _specs(a)]
    job = _job(a)
    if a.find_load:
        check_capacity(job)
    for spec, space in plans:
        print(_plan_line(spec, space))
    if a.dry_run:
        return 0
    path = Path(a.store)
    with Store(path) as store, _shown_live(a, path):
        with under_way(path):
            found = _tune_all(a, plans, job, store)
        if a.explorer:
            _explore(a, store)
    recommended = [advise(one, job.slo).chosen for one in found.values()]
    return 0 if any(one is not None for one in recommended) else NOTHING_FEASIBLE


@contextmanager
def _shown_live(a: argparse.Namespace, path: "Path") -> "Iterator[None]":
    """With --live: a page that follows the block, and hears of its end."""
    if not a.live:
        yield
        return
    from sixfold.instrument.explorer.live import LiveServer

    with LiveServer(path, f"Tuning {a.model}") as server:
        print(f"follow it at {server.url}", flush=True)
        yield
        server.say_farewell()


def _tune_all(
    a: argparse.Namespace,
    plans: "list[tuple[EngineSpec, dict[str, tuple[Scalar, ...]]]]",
    job: "Job",
    store: "Store",
) -> "dict[str, Found]":
    from math import prod

    from sixfold.instrument.tuner.tell import engines_table, verdict_lines

    found: dict[str, Found] = {}
    for spec, space in plans:
        found[spec.engine] = _tune(a, spec, space, job, store)
        size = 3 * prod(map(len, space.values()))
        print("\n".join(verdict_lines(found[spec.engine], job, _objective(a), size)))
    if len(found) > 1:
        print("\n" + engines_table(found, job.slo, _objective(a)))
    return found


def _tune(
    a: argparse.Namespace,
    spec: "EngineSpec",
    space: "dict[str, tuple[Scalar, ...]]",
    job: "Job",
    store: "Store",
) -> "Found":
    from pathlib import Path

    from sixfold.instrument.backends.flags import check_flags
    from sixfold.instrument.tuner.ask import QualityCheck
    from sixfold.instrument.tuner.runner import Runner
    from sixfold.instrument.tuner.tune import Study, tune

    check_flags(spec)
    study = Study(
        name=a.study or _study_name(a, spec),
        spec=spec,
        job=job,
        objective=_objective(a),
        seconds=seconds(a.budget) / len(a.engine.split(",")),
        find_load=a.find_load,
    )
    check = QualityCheck(spec) if _tries_lossy(a, spec.engine) else None
    logs = Path(a.store).resolve().parent / "sixfold-logs"

    def say(text: str) -> None:
        print(f"  {text}", flush=True)

    with Runner(logs, say, progress_bar(), check) as runner:
        return tune(study, _searcher(a, space), store, runner, _teller(study.objective))


def _searcher(a: argparse.Namespace, space: "dict[str, tuple[Scalar, ...]]") -> "MakeTuner":
    """Makes the search that was asked for, once the noise is known."""
    from itertools import product

    from sixfold.instrument.tuner.halving import HalvingSearch
    from sixfold.instrument.tuner.search import Search, SearchPlan
    from sixfold.instrument.tuner.space import space_of
    from sixfold.instrument.tuner.tpe import TpeSearch
    from sixfold.instrument.tuner.trial import grid_search, random_search

    grid = [dict(zip(space, row, strict=True)) for row in product(*space.values())]
    budget = a.runs or max(6, len(grid) // 2)
    if a.search == "auto":
        known = space_of(grid)
        return lambda noise: Search(grid, known, SearchPlan(budget, seed=a.seed, noise=noise))
    plain: dict[str, Callable[[], Tuner]] = {
        "grid": lambda: grid_search(grid, seed=a.seed),
        "random": lambda: random_search(grid, budget, a.seed),
        "halving": lambda: HalvingSearch(grid, budget, a.seed),
        "tpe": lambda: TpeSearch(grid, budget, a.seed),
    }
    made = plain[a.search]()
    return lambda _noise: made


def _teller(objective: str) -> "Callable[[Point, float], None]":
    from sixfold.instrument.tables import shown, shown_unit
    from sixfold.instrument.tuner.quality import failed

    def tell(point: "Point", spent: float) -> None:
        value = point.values.get(objective)
        result = point.reason if value is None else f"{shown(objective, value)}"
        unit = "" if value is None else f" {shown_unit(objective)}"
        flags = " ".join(f"{k}={v}" for k, v in point.config.items()) or "(defaults)"
        print(f"  [{min(spent, 1):4.0%}] {flags}: {result}{unit}", flush=True)
        if worse := failed(point.telemetry):
            print(f"         it can't win: {worse}", flush=True)
        if point.client.get("client_bound"):
            print(f"         the client was the limit: {point.client['reason']}", flush=True)

    return tell


def _objective(a: argparse.Namespace) -> str:
    return str(a.objective or ("goodput" if a.slo else "output_throughput"))


def _job(a: argparse.Namespace) -> "Job":
    from sixfold.core.slo import parse_slo
    from sixfold.instrument.loadgen.client import Target
    from sixfold.instrument.loadgen.run import Limits
    from sixfold.instrument.measure import Job, check
    from sixfold.instrument.workloads.presets import parse_workload

    job = Job(
        target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
        workload=parse_workload(a.workload),
        load=first_load(a),
        seed=a.seed,
        slo=parse_slo(a.slo) if a.slo else None,
        limits=Limits(seconds=a.seconds),
    )
    check(job)
    return job


def _specs(a: argparse.Namespace) -> "list[EngineSpec]":
    from sixfold.instrument.backends import backend
    from sixfold.instrument.backends.grid import parse_grid
    from sixfold.instrument.backends.spec import EngineSpec

    paths, models = _pairs(a.executable, "="), _pairs(a.model_for, "=")
    flags = {name: parse_grid(text)[0] for name, text in _pairs(a.flags, ":").items()}
    specs = []
    for name in a.engine.split(","):
        backend(name)
        specs.append(
            EngineSpec(
                engine=name,
                model=models.get(name, a.model),
                executable=paths.get(name, ""),
                flags=flags.get(name, {}),
            )
        )
    return specs


def _pairs(texts: list[str], sign: str) -> dict[str, str]:
    from sixfold.core.errors import ConfigError

    found = {}
    for text in texts:
        name, given, value = text.partition(sign)
        if not given or not value:
            raise ConfigError(f"{text!r} is not ENGINE{sign}VALUE", f"write sixfold{sign}...")
        found[name] = value
    return found


def _space(a: argparse.Namespace, engine: str) -> "dict[str, tuple[Scalar, ...]]":
    from sixfold.instrument.backends.grid import parse_grid
    from sixfold.instrument.tuner.spaces import default_space

    if not a.space:
        return default_space(engine, a.allow_lossy)
    rows = parse_grid(a.space)
    return {name: tuple(dict.fromkeys(row[name] for row in rows)) for name in rows[0]}


def _plan_line(spec: "EngineSpec", space: "dict[str, tuple[Scalar, ...]]") -> str:
    from math import prod

    from sixfold.instrument.backends import backend
    from sixfold.instrument.backends.spec import tested_words

    values = "; ".join(f"{name}={list(values)}" for name, values in space.items())
    size = prod(map(len, space.values()))
    words = tested_words(backend(spec.engine))
    tested = f" ({words})" if words else ""
    return f"{spec.engine}{tested}: {size} configurations of {values}"


def _tries_lossy(a: argparse.Namespace, engine: str) -> bool:
    """Whether a setting that changes what the model says is among those tried."""
    from sixfold.instrument.tuner.spaces import LOSSY

    return not LOSSY.get(engine, {}).keys().isdisjoint(_space(a, engine))


def _study_name(a: argparse.Namespace, spec: "EngineSpec") -> str:
    import hashlib

    what = (spec.model, dict(spec.flags), a.workload, a.slo, a.space, a.concurrency, a.rate, a.seed)
    # A study of before the quality check is not gone on from.
    checked = ("checked",) if _tries_lossy(a, spec.engine) else ()
    whole = (*what, a.objective, a.allow_lossy, a.search, *checked)
    digest = hashlib.blake2b(repr(whole).encode())
    return f"tune-{spec.engine}-{digest.hexdigest()[:8]}"


def seconds(text: str) -> float:
    """ "90s", "20m", "2h" or plain seconds. Raises ConfigError."""
    from sixfold.core.errors import ConfigError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"--budget is {text!r}", "write 90s, 20m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _explore(a: argparse.Namespace, store: "Store") -> None:
    from pathlib import Path

    from sixfold.instrument.explorer.page import write_page

    points = [point for _, point in store.points()]
    write_page(points, Path(a.explorer), f"Tuning {a.model}")
    print(f"\n{a.explorer}: {len(points)} points to explore", file=sys.stdout)
