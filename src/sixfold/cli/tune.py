"""`sixfold tune`: find the configuration that serves a workload best under objectives."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sixfold.cli.bench import add_load, first_load, progress_bar
from sixfold.cli.parsing import Parser

if TYPE_CHECKING:
    from pathlib import Path

    from sixfold.core.point import Point
    from sixfold.instrument.store.store import Store
    from sixfold.instrument.tuner.arguments import Plan
    from sixfold.instrument.tuner.trial import Tuner
    from sixfold.instrument.tuner.tune import Found, MakeTuner, Study

EXAMPLES = """examples:
  sixfold tune smollm2-135m --workload chat:count=8 --slo "ttft:p95<1s;itl:p95<100ms" --budget 5m
  sixfold tune smollm2-135m --engine sixfold,llamacpp --executable llamacpp=./llama-server \\
      --model-for llamacpp=model.gguf --rate 4 --slo preset:chat@llm-d-planner --store tune.db
  sixfold tune smollm2-135m --rate 2 --slo "ttft:p95<1s" --find-load
  sixfold tune smollm2-135m --space "max_num_seqs=[4,16];max_num_batched_tokens=[128,512]" --dry-run
  sixfold tune m --engine command --start-command \\
      "docker run --rm -p 127.0.0.1:{port}:8000 IMG {model} {args}" --space "max_num_seqs=[16,64]"
  sixfold tune m --engine openai --executable openai=http://127.0.0.1:8000 --slo "ttft:p95<1s" \\
      --find-load

Run it again with the same arguments after a stop or a kill: it goes on where it was.
Lossy settings (weights or KV in fewer bits) are only tried with --allow-lossy."""

NOTHING_FEASIBLE = 3
WORKLOAD = "chat:count=8,turns=2,output=32"
"""What is sent where nothing is said."""
SEARCHES = ("auto", "halving", "random", "grid", "tpe")


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
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
    p.add_argument("--env", action="append", default=[], metavar="ENGINE:K=V",
                   help="a variable of its environment")  # fmt: skip
    p.add_argument("--start-command", default="", metavar="TEMPLATE",
                   help="of the engine `command`: with {port}, {args} and {model}")  # fmt: skip
    p.add_argument("--stop-command", default="", metavar="TEMPLATE",
                   help="of the engine `command`, where ending that is not enough")  # fmt: skip
    p.add_argument("--ready-path", action="append", default=[], metavar="[ENGINE=]PATH",
                   help="answers 200 once the server can serve")  # fmt: skip
    p.add_argument("--space", "--server-args", metavar="GRID",
                   help="what to try, in place of the engine's own space")  # fmt: skip
    p.add_argument("--client-args", metavar="GRID", help="load and random lengths as llm-optimizer "
                   "names them; each load is a study of its own")  # fmt: skip
    p.add_argument("--allow-lossy", action="store_true", help="try lossy settings, too")
    p.add_argument("--workload", help=f"what to send ({WORKLOAD})")
    add_load(p)
    p.add_argument("--slo", help='objectives: "ttft:p95<500ms;itl:p95<50ms" or preset:NAME')
    p.add_argument("--objective", default="", help="metric to make best (goodput, or "
                   "output_throughput without --slo)")  # fmt: skip
    p.add_argument(
        "--price-per-hour", type=float, help="$ for the servers: gives cost per M tokens"
    )
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
    """Tune each engine in turn under each load, then compare."""
    a = parser().parse_args(argv)
    from pathlib import Path

    from sixfold.instrument.store.follow import under_way
    from sixfold.instrument.store.store import Store
    from sixfold.instrument.tuner.arguments import (
        check_engines,
        jobs_of,
        plans_of,
        studies_of,
        workload_line,
    )

    plans, jobs = plans_of(a), jobs_of(a, lambda: first_load(a), WORKLOAD)
    share = seconds(a.budget) / len(plans) / len(jobs)
    rounds = [studies_of(a, plans, job, share) for job in jobs]
    for line in (*map(workload_line, jobs), *(plan.line for plan in plans)):
        print(line, flush=True)
    if a.dry_run:
        return 0
    check_engines(plans)
    path = Path(a.store)
    with Store(path) as store, _shown_live(a, path):
        with under_way(path):
            done = [_tune_all(a, plans, studies, store) for studies in rounds]
        if a.explorer:
            _explore(a, store)
    return 0 if all(done) else NOTHING_FEASIBLE


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
    a: argparse.Namespace, plans: "list[Plan]", studies: "list[Study]", store: "Store"
) -> bool:
    """All engines under one load; whether something that meets the objectives is recommended."""
    from sixfold.instrument.tuner.advice import advise
    from sixfold.instrument.tuner.arguments import workload_line
    from sixfold.instrument.tuner.tell import engines_table, verdict_lines

    job, objective = studies[0].job, studies[0].objective
    if a.client_args:
        print(f"\n{workload_line(job)}", flush=True)
    found: dict[str, Found] = {}
    for plan, study in zip(plans, studies, strict=True):
        one = found[plan.spec.engine] = _tune(a, plan, study, store)
        size = 3 * len(plan.space.configurations())
        print("\n".join(verdict_lines(one, job, objective, size)), flush=True)
    if len(found) > 1:
        print("\n" + engines_table(found, job.slo, objective), flush=True)
    return any(advise(one, job.slo).chosen is not None for one in found.values())


def _tune(a: argparse.Namespace, plan: "Plan", study: "Study", store: "Store") -> "Found":
    from pathlib import Path

    from sixfold.instrument.tuner.ask import QualityCheck
    from sixfold.instrument.tuner.runner import Runner
    from sixfold.instrument.tuner.tune import tune

    check = QualityCheck(plan.spec) if plan.tries_lossy else None
    logs = Path(a.store).resolve().parent / "sixfold-logs"

    def say(text: str) -> None:
        print(f"  {text}", flush=True)

    with Runner(logs, say, progress_bar(), check) as runner:
        return tune(study, searcher(a, plan), store, runner, teller(study.objective))


def searcher(a: argparse.Namespace, plan: "Plan") -> "MakeTuner":
    """Makes the search that was asked for, once the noise is known."""
    from sixfold.instrument.tuner.halving import HalvingSearch
    from sixfold.instrument.tuner.search import Search, SearchPlan
    from sixfold.instrument.tuner.space import space_of
    from sixfold.instrument.tuner.tpe import TpeSearch
    from sixfold.instrument.tuner.trial import NoSearch, grid_search, random_search

    grid = plan.space.configurations()
    if not plan.space.parameters:
        return lambda _noise: NoSearch()
    budget = a.runs or max(6, len(grid) // 2)
    if a.search == "auto":
        known = space_of(grid)
        return lambda noise: Search(grid, known, SearchPlan(budget, seed=a.seed, noise=noise))
    plain: dict[str, Callable[[], Tuner]] = {
        "grid": lambda: grid_search(grid, a.runs or 0, seed=a.seed),
        "random": lambda: random_search(grid, budget, a.seed),
        "halving": lambda: HalvingSearch(grid, budget, a.seed),
        "tpe": lambda: TpeSearch(grid, budget, a.seed),
    }
    made = plain[a.search]()
    return lambda _noise: made


def teller(objective: str) -> "Callable[[Point, float], None]":
    """Prints a line for each point, and what there is to know of it."""
    from sixfold.instrument.tables import shown, shown_unit
    from sixfold.instrument.tuner.quality import failed

    versions: list[str] = []

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
        version = point.engine_version
        if version and versions and version not in versions:
            print(f"         this is {point.engine} {version}, runs before were of {versions[-1]}: "
                  "give --study a new name to measure all anew", flush=True)  # fmt: skip
        if version and version not in versions:
            versions.append(version)

    return tell


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
