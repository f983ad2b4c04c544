"""`sixfold bench`: send a workload to a running server and say how it was served."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sixfold.cli.parsing import Parser

if TYPE_CHECKING:
    from sixfold.core.point import Point
    from sixfold.instrument.loadgen.arrivals import Arrivals
    from sixfold.instrument.loadgen.run import Progress
    from sixfold.instrument.measure import Job

EXAMPLES = """examples:
  sixfold bench --url http://127.0.0.1:8000 --workload chat --concurrency 8
  sixfold bench --url http://127.0.0.1:8000 --rate 4 --slo "ttft:p95<500ms;itl:p95<50ms"
  sixfold bench --workload shared-prefix:count=64,depth=1 --concurrency 1,4,16 --store bench.db
  sixfold bench --workload trace:file=trace.jsonl,first=200,block=16 --arrivals trace
  sixfold bench --rate 2 --slo "ttft:p95<500ms" --find-load --wait 60
  sixfold bench --concurrency 32 --profile

Workloads are NAME or NAME:KEY=VALUE,...; `sixfold bench --list` shows names, keys and defaults,
and the published objectives that preset:NAME stands for.
Exit code 0: done, objectives met; 1: an error; 3: an objective is broken or unknown."""

BROKEN = 3
COLUMNS = ("ttft:p50", "ttft:p95", "tpot:p50", "itl:p95", "e2e:p95", "output_throughput",
           "request_throughput", "goodput", "error_rate", "cached_rate", "cost")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold bench",
        description="Measure a running OpenAI-compatible server under a workload.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--url", default="http://127.0.0.1:8000", help="the server (%(default)s)")
    p.add_argument("--model", default="", help="the model's name there (default: its first)")
    p.add_argument("--workload", default="random:count=32", help="what to send (%(default)s)")
    p.add_argument(
        "--list",
        action="store_true",
        help="list the workloads and the published objectives, and end",
    )
    add_load(p)
    p.add_argument("--slo", help='objectives: "ttft:p95<500ms and error_rate<1%%", preset:NAME')
    p.add_argument("--chat", action="store_true", help="ask /v1/chat/completions (text workloads)")
    p.add_argument("--api-key", default="", help="the server's key")
    p.add_argument("--extra-body", metavar="JSON", help="more fields of each request")
    p.add_argument("--seed", type=int, default=0, help="other seeds, other prompts (%(default)s)")
    p.add_argument("--price-per-hour", metavar="PRICE",
                   help="$ for all that serves, or a TOML file of prices by hardware "
                        '("*H100*" = 2.49): gives cost per M tokens')  # fmt: skip
    p.add_argument("--hardware", default="", help="what serves, as the point names it (default: "
                   "this machine's CPU)")  # fmt: skip
    p.add_argument("--find-load", action="store_true",
                   help="find the highest load that meets --slo, from the one given")  # fmt: skip
    p.add_argument("--wait", type=float, default=0.0, metavar="SECONDS",
                   help="wait for a server that still starts")  # fmt: skip
    p.add_argument("--no-warmup", action="store_true", help="measure a cold server")
    p.add_argument("--no-telemetry", action="store_true", help="read nothing beside the load")
    p.add_argument("--profile", action="store_true",
                   help="of sixfold's own server: where its steps' time goes")  # fmt: skip
    p.add_argument("--gpu-metrics", metavar="URL", default="", help="DCGM exporter's page")
    p.add_argument("--engine", default="openai", help="its name in the point (%(default)s)")
    p.add_argument("--store", metavar="FILE", help="append the points to this store")
    p.add_argument("--json", action="store_true", help="print the points as JSON Lines")
    p.add_argument(
        "--allow-remote", action="store_true", help="send load to another machine, with consent"
    )
    return p


def add_load(p: argparse.ArgumentParser) -> None:
    """Arguments that say how much is sent when."""
    load = p.add_argument_group("load")
    load.add_argument("--concurrency", help="closed loop: so many sessions at once; 1,4,16: each")
    load.add_argument("--rate", type=float, help="open loop: sessions per second")
    load.add_argument(
        "--arrivals",
        choices=("poisson", "constant", "ramp", "trace"),
        default="poisson",
        help="how an open loop's sessions arrive (%(default)s)",
    )
    load.add_argument(
        "--rate-to", type=float, help="with --arrivals ramp: the rate that it ends at"
    )
    load.add_argument(
        "--ramp-seconds", type=float, default=60.0, help="within so long (%(default)s)"
    )
    load.add_argument(
        "--burstiness", type=float, default=1.0, help="1 is Poisson, less is burstier (%(default)s)"
    )
    load.add_argument("--seconds", type=float, default=600.0, help="send no longer (%(default)s)")
    load.add_argument(
        "--stop-when-saturated",
        action="store_true",
        help="end an open loop once its queue and TTFT grow without end",
    )


def run(argv: list[str]) -> int:
    """Measure each load, print, keep."""
    a = parser().parse_args(argv)
    if a.list:
        from sixfold.core import slo_presets
        from sixfold.instrument.workloads.presets import describe

        print(f"{describe()}\n{slo_presets.describe()}")
        return 0
    from sixfold.instrument.measure import warm_up
    from sixfold.instrument.tuner.capacity import check_capacity

    jobs = [_job(a, load, number) for number, load in enumerate(_loads(a))]
    if a.find_load:
        check_capacity(jobs[0])
    if not a.no_warmup:
        rounds = warm_up(jobs[0])
        _say(a, f"warmed up in {rounds} rounds")
    if a.find_load:
        return _find_load(a, jobs[0])
    points: list[Point] = []
    for job in jobs:
        points.append(_measured(a, job))
        if _interrupted(points[-1]):
            break
    _print(a, points)
    return _verdict(a, jobs[0], points)


def _print(a: argparse.Namespace, points: "list[Point]") -> None:
    """The points, as JSON Lines or as a table."""
    if a.json:
        import msgspec

        sys.stdout.writelines(msgspec.json.encode(p).decode() + "\n" for p in points)
    else:
        print(_table(points))


def _measured(a: argparse.Namespace, job: "Job") -> "Point":
    """One point, said and kept."""
    from sixfold.instrument.measure import Subject, measure
    from sixfold.instrument.tables import fingerprint_words
    from sixfold.instrument.telemetry.step_profile import profile_lines, read_counters

    subject = Subject(engine=a.engine, model=job.target.model, hardware=a.hardware, study="bench")
    before = read_counters(a.url) if a.profile else None
    point, result = measure(job, subject, None if a.json else progress_bar())
    _say(a, f"{point.load}: {fingerprint_words(point.fingerprint)}")
    if result.health.client_bound:
        _say(a, f"warning: the client was the limit: {result.health.reason}")
    if result.stopped:
        _say(a, f"stopped early ({result.stopped}): {result.unsent} requests were not sent, "
                f"{result.unfinished} not answered")  # fmt: skip
    if point.telemetry:
        _say(a, _telemetry(point.telemetry))
    errors = [o.error for o in result.outcomes if o.error]
    if errors:
        _say(a, f"{len(errors)} requests failed; the first: {errors[0]}")
    if before is not None:
        _say(a, "\n".join(profile_lines(before, read_counters(a.url))))
    if a.store:
        _keep(a.store, point)
    return point


def _interrupted(point: "Point") -> bool:
    return bool(point.client["stopped"] == "interrupted")


def _find_load(a: argparse.Namespace, job: "Job") -> int:
    """Raise the load until the objectives break; each run has prompts of its own."""
    import msgspec

    from sixfold.instrument.tuner.capacity import capacity_words, find_capacity

    points: list[Point] = []

    def run(raised: "Job") -> "Point":
        seed = job.seed + (len(points) << 20)
        points.append(_measured(a, msgspec.structs.replace(raised, seed=seed)))
        if _interrupted(points[-1]):
            raise KeyboardInterrupt
        return points[-1]

    found = find_capacity(run, job)
    _print(a, points)
    _say(a, f"highest load that meets {job.slo}: {capacity_words(found, job.load)}")
    return 0 if found.passing is not None else BROKEN


def _telemetry(seen: dict[str, Any]) -> str:
    """A short line: what is known of the engine and the machine, then what can't be read."""
    shown = {
        "running": ("engine_requests_running_mean_count", "{:.1f}"),
        "waiting": ("engine_requests_waiting_mean_count", "{:.1f}"),
        "KV at most": ("engine_kv_cache_usage_max_fraction", "{:.0%}"),
        "preemptions": ("engine_preemptions_count", "{:.0f}"),
        "rejections": ("engine_rejections_count", "{:.0f}"),
        "its queue p95 (s)": ("engine_queue_p95_seconds", "{:.3g}"),
        "prefix hits": ("engine_prefix_hit_fraction", "{:.0%}"),
        "accepted": ("engine_acceptance_fraction", "{:.0%}"),
        "engine cores": ("engine_cpu_cores", "{:.2f}"),
        "foreign cores": ("foreign_cpu_cores", "{:.2f}"),
        "GPU energy (J)": ("gpu_energy_joules", "{:.0f}"),
    }
    known = [f"{name} {form.format(seen[k])}" for name, (k, form) in shown.items() if k in seen]
    return "; ".join(["telemetry: " + ", ".join(known or ["none"]), *seen.get("notes", [])])


def _keep(path: str, point: "Point") -> None:
    from pathlib import Path

    from sixfold.instrument.store.store import Store

    with Store(Path(path)) as store:
        store.append([point])


def _job(a: argparse.Namespace, load: "Arrivals | int", number: int) -> "Job":
    from sixfold.core.slo import parse_slo
    from sixfold.instrument.loadgen.client import Target
    from sixfold.instrument.loadgen.run import Limits
    from sixfold.instrument.measure import Job, check, hardware
    from sixfold.instrument.prices import price_per_hour
    from sixfold.instrument.workloads.presets import parse_workload

    extra = {"temperature": 0, "ignore_eos": True} | _extra(a.extra_body)
    target = Target(url=a.url, model=a.model, chat=a.chat, api_key=a.api_key, extra=extra)
    job = Job(
        target=target,
        workload=parse_workload(a.workload),
        load=load,
        # Prompts of their own for each load: the server's cache must not know them from the last.
        seed=a.seed + (number << 20),
        slo=parse_slo(a.slo) if a.slo else None,
        limits=Limits(seconds=a.seconds, stop_saturated=a.stop_when_saturated),
        price_per_hour=price_per_hour(a.price_per_hour, a.hardware or hardware())
        if a.price_per_hour is not None
        else None,
        allow_remote=a.allow_remote,
        telemetry=not a.no_telemetry,
        gpu_metrics_url=a.gpu_metrics,
    )
    check(job)
    import msgspec

    from sixfold.instrument.discover import first_model, wait_for

    if a.wait:
        wait_for(target, a.wait, a.allow_remote)
    if target.model:
        return job
    named = msgspec.structs.replace(target, model=first_model(target, a.allow_remote))
    return msgspec.structs.replace(job, target=named)


def _extra(text: str | None) -> dict[str, Any]:
    from sixfold.core.errors import ConfigError

    try:
        fields = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"--extra-body is no JSON: {error}", "quote it: '{\"top_k\": 1}'"
        ) from None
    if not isinstance(fields, dict):
        raise ConfigError("--extra-body is no JSON object", "write '{\"top_k\": 1}'")
    return fields


def _loads(a: argparse.Namespace) -> "list[Arrivals | int]":
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.loadgen.arrivals import constant, gamma, ramp, replay

    if a.concurrency and (a.rate is not None or a.arrivals == "trace"):
        raise ConfigError("--concurrency is a closed loop, --rate an open one", "give one of them")
    if a.arrivals == "trace":
        return [replay()]
    if a.arrivals == "ramp":
        if a.rate is None or a.rate_to is None:
            raise ConfigError("a ramp goes from a rate to a rate", "give --rate and --rate-to")
        return [ramp(a.rate, a.rate_to, a.ramp_seconds, a.seed)]
    if a.rate is None and (a.arrivals == "constant" or a.burstiness != 1.0):
        raise ConfigError("arrivals of an open loop have a rate", "give --rate")
    if a.rate is not None:
        constant_rate = a.arrivals == "constant"
        return [constant(a.rate) if constant_rate else gamma(a.rate, a.burstiness, a.seed)]
    parts = (a.concurrency or "8").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--concurrency is {a.concurrency!r}", "write 8 or 1,4,16")
    return [int(part) for part in parts]


def first_load(a: argparse.Namespace) -> "Arrivals | int":
    """The one load that was asked for. Raises ConfigError for several."""
    from sixfold.core.errors import ConfigError

    loads = _loads(a)
    if len(loads) > 1:
        raise ConfigError("one load at a time", "give --concurrency one number")
    return loads[0]


def progress_bar() -> "Callable[[Progress], None] | None":
    """A bar on a terminal's standard error; None where there is none."""
    if not sys.stderr.isatty():
        return None

    def show(p: "Progress") -> None:
        done = p.finished / max(1, p.planned)
        bar = "#" * int(30 * done) + "." * (30 - int(30 * done))
        end = "\n" if p.finished >= p.planned else ""
        text = f"\r[{bar}] {p.finished}/{p.planned} requests, {p.failed} failed, {p.seconds:.0f} s"
        print(text, end=end, file=sys.stderr, flush=True)

    return show


def _say(a: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if a.json else sys.stdout, flush=True)


def _table(points: "list[Point]") -> str:
    from sixfold.instrument.tables import table

    keys = [key for key in COLUMNS if any(key in p.values for p in points)]
    rows = [
        (_load_name(p), {key: p.values[key] for key in keys if key in p.values}) for p in points
    ]
    return table(rows, keys)


def _load_name(point: "Point") -> str:
    return ", ".join(f"{key} {value}" for key, value in point.load.items())


def _verdict(a: argparse.Namespace, job: "Job", points: "list[Point]") -> int:
    if job.slo is None:
        return 0
    code = 0
    for point in points:
        judged = job.slo.judge(point.values)
        code = code if judged.met else BROKEN
        _say(a, f"{_load_name(point)}: objectives {judged.verdict}")
        for clause in judged.clauses:
            shown = "not measured" if clause.value is None else f"{clause.value:.4g}"
            _say(a, f"  {clause.verdict:<8} {clause.clause}  (was {shown})")
    return code
