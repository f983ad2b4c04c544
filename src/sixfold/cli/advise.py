"""`sixfold advise`: what limits a server, what to do about it, and whether that helps."""

import argparse
import sys
from typing import TYPE_CHECKING

from sixfold.cli.bench import add_load, first_load, progress_bar
from sixfold.cli.parsing import Parser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sixfold.core.point import Point
    from sixfold.core.slo import Slo
    from sixfold.instrument.advisor.advice import Advice
    from sixfold.instrument.advisor.proof import Subject
    from sixfold.instrument.advisor.scoreboard import Entry
    from sixfold.instrument.advisor.signals import Readings
    from sixfold.instrument.advisor.window import Setting

EXAMPLES = """examples:
  sixfold advise http://127.0.0.1:8000 --slo "ttft:p95<1s;itl:p95<100ms"
  sixfold advise http://10.0.0.1:8000 http://10.0.0.2:8000 --look 60s --report plan.md
  sixfold advise http://127.0.0.1:8000 --set max_num_seqs=64 --watch
  sixfold advise http://127.0.0.1:8000 --allow-load --max-rate 2 --workload chat:turns=2
  sixfold advise --record bench.db --slo "ttft:p95<1s"
  sixfold advise --prometheus http://127.0.0.1:9090 --window 24h --slo "ttft:p95<1s"
  sixfold advise --validate smollm2-135m --flags "max_num_seqs=2" --workload chat:count=12 \\
      --concurrency 12 --slo "ttft:p95<1s;itl:p95<100ms"
  sixfold advise --validate smollm2-135m --engine sixfold --allow-restart \\
      --set max_num_seqs=2 --set batching=continuous \\
      --start-command "sixfold serve {model} --port {port} --max-num-seqs 2 {args}"

Servers are only read: their metrics pages, and what they tell of their settings. With --validate an
engine is started here and loaded; with --allow-load a running server is sent requests, at most
--max-rate of them, and no more once the objective breaks; with --allow-restart commands of your
own may start and stop a server, once for every run.
Exit code 0: the objective is met; 1: an error; 3: a cause was found; 4: it abstained."""

FOUND, ABSTAINED = 3, 4
SLO = "ttft:p95<2s;itl:p95<200ms"
"""Where nothing is said: what practitioners alert on (docs/guides/find-your-bottleneck.md)."""
PAIRS = 20
WORKLOAD = "chat:count=12,turns=2,output=32"


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold advise",
        description="Name what limits a server under an objective, and what to do about it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("urls", nargs="*", metavar="URL", help="servers; several are replicas")
    p.add_argument("--slo", default=SLO, help="the objective (%(default)s)")
    p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                   help="a setting that the server does not tell: max_num_seqs=64")  # fmt: skip
    p.add_argument("--look", default="20s", help="how long to look at servers (%(default)s)")
    p.add_argument("--watch", action="store_true", help="look again and again, until Ctrl-C")
    p.add_argument("--allow-load", action="store_true",
                   help="send requests, carefully: --workload, at most --max-rate")  # fmt: skip
    p.add_argument("--max-rate", type=float, default=1.0, help="sessions per second (%(default)s)")
    p.add_argument("--api-key-env", default="", metavar="NAME",
                   help="variable that holds the servers' key")  # fmt: skip
    p.add_argument("--record", metavar="FILE", help="a store or JSON Lines of `sixfold bench`: "
                   "its last point")  # fmt: skip
    p.add_argument("--study", default="", help="with --record: of this study")
    p.add_argument("--trace", metavar="FILE", help="beside any of these, a trace of `sixfold "
                   "record`: what prompts share, and could share")  # fmt: skip
    p.add_argument("--prometheus", metavar="URL", help="read the history kept there")
    p.add_argument("--window", default="24h", help="with --prometheus: how far back (%(default)s)")
    p.add_argument("--match", default="", help='with --prometheus: labels, such as job="vllm"')
    p.add_argument("--json", action="store_true", help="print the advice as JSON")
    p.add_argument("--report", metavar="FILE", help="write a plan to hand over: plan.md, plan.html")
    _add_validation(p)
    return p


def _add_validation(p: argparse.ArgumentParser) -> None:
    v = p.add_argument_group(
        "proof", "start an engine, examine it, try the remedy in pairs of runs"
    )
    v.add_argument("--validate", metavar="MODEL", help="the model to serve")
    v.add_argument("--engine", default="sixfold", help="(%(default)s)")
    v.add_argument("--executable", default="", help="the engine's program, where it is not ours")
    v.add_argument("--flags", default="", metavar="K=V;K=V", help="as it is started now")
    v.add_argument("--start-command", default="", metavar="TEMPLATE",
                   help="starts a server of yours that takes --engine's flags, with {port}, {args} "
                   "and {model}")  # fmt: skip
    v.add_argument("--stop-command", default="", metavar="TEMPLATE",
                   help="stops it, where ending the start command is not enough")  # fmt: skip
    v.add_argument("--allow-restart", action="store_true",
                   help="these commands may run, once for every run")  # fmt: skip
    v.add_argument("--workload", default=WORKLOAD, help="what to send (%(default)s)")
    v.add_argument("--steps", type=int, default=1, help="how many remedies to try (%(default)s)")
    v.add_argument("--pairs", type=int, default=PAIRS, metavar="N",
                   help="of runs, at most; clear effects take 3 (%(default)s)")  # fmt: skip
    v.add_argument("--store", default="sixfold-advise.db", metavar="FILE", help="(%(default)s)")
    v.add_argument("--scoreboard", default="sixfold-scoreboard.jsonl", metavar="FILE",
                   help="where verdicts are appended (%(default)s)")  # fmt: skip
    v.add_argument("--seed", type=int, default=0)
    add_load(p)


def run(argv: list[str]) -> int:
    """Look, say, and prove if asked to."""
    a = parser().parse_args(argv)
    from pathlib import Path

    from sixfold.core.errors import ConfigError
    from sixfold.core.slo import parse_slo
    from sixfold.instrument.advisor.plan import check_path

    ways = [bool(a.urls), bool(a.record), bool(a.prometheus), bool(a.validate)]
    if sum(ways) != 1:
        hint = "give one of: URLs, --record FILE, --prometheus URL, --validate MODEL"
        raise ConfigError("what should be looked at?", hint)
    if (a.start_command or a.stop_command or a.allow_restart) and not a.validate:
        raise ConfigError("nothing is restarted without --validate MODEL", "see --help")
    if a.report:
        check_path(Path(a.report))
    slo, extra = parse_slo(a.slo), settings_of(a.set)
    if a.validate:
        return _validated(a, slo, extra)
    if a.watch:
        return _watched(a, slo, extra)
    return _told(a, _advice(a, slo, extra))


def settings_of(texts: "Sequence[str]") -> "dict[str, Setting]":
    """NAME=VALUE each. Raises ConfigError."""
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.backends.grid import parse_grid

    found: dict[str, Setting] = {}
    for text in texts:
        rows = parse_grid(text) if "=" in text else []
        if len(rows) != 1 or len(rows[0]) != 1:
            raise ConfigError(f"--set {text!r} is not NAME=VALUE", "such as max_num_seqs=64")
        found |= {name.replace("-", "_"): value for name, value in rows[0].items()}
    return found


def _advice(a: argparse.Namespace, slo: "Slo", extra: "Mapping[str, Setting]") -> "Advice":
    """Of what was named; read-only."""
    if a.record:
        from sixfold.instrument.advisor.advice import of_record

        return of_record(_last_point(a), slo, extra, _of_trace(a))
    if a.prometheus:
        from sixfold.cli.tune import seconds
        from sixfold.instrument.advisor.advice import of_history
        from sixfold.instrument.advisor.history.prometheus import History

        history = History(a.prometheus, a.match, a.api_key_env)
        return of_history(history.look(seconds(a.window)), slo, extra)
    return _loaded(a, slo, extra) if a.allow_load else _looked(a, slo, extra)


def _key(a: argparse.Namespace) -> str:
    """The servers' key, out of the environment: not in anybody's list of processes."""
    import os

    from sixfold.core.errors import ConfigError

    key = os.environ.get(a.api_key_env, "") if a.api_key_env else ""
    if a.api_key_env and not key:
        raise ConfigError(f"there is no variable {a.api_key_env}", "export the key under that name")
    return key


def _loaded(a: argparse.Namespace, slo: "Slo", extra: "Mapping[str, Setting]") -> "Advice":
    """Of one running server under a little load, which the user has allowed."""
    import msgspec

    from sixfold.core.errors import ConfigError
    from sixfold.instrument.advisor.advice import of_record
    from sixfold.instrument.advisor.careful import raised
    from sixfold.instrument.advisor.endpoint import Replica, look
    from sixfold.instrument.discover import first_model
    from sixfold.instrument.loadgen.client import Target
    from sixfold.instrument.loadgen.run import Limits
    from sixfold.instrument.measure import Job, Subject, check, measure
    from sixfold.instrument.workloads.presets import parse_workload

    if len(a.urls) != 1:
        raise ConfigError("--allow-load is for one server", "give one URL")
    target = Target(url=a.urls[0], api_key=_key(a), extra={"temperature": 0, "ignore_eos": True})
    target = msgspec.structs.replace(target, model=first_model(target, allow_remote=True))
    (window,) = look([Replica(a.urls[0], _headers(a))], 0.0)
    job = Job(target=target, workload=parse_workload(a.workload), load=1, seed=a.seed, slo=slo,
              limits=Limits(seconds=a.seconds), allow_remote=True)  # fmt: skip
    check(job)
    subject = Subject(engine=window.engine or "openai", model=target.model,
                      engine_version=window.version, config=dict(window.settings),
                      study=a.urls[0])  # fmt: skip
    point = raised(job, a.max_rate, lambda step: measure(step, subject, progress_bar())[0],
                   lambda text: print(text, file=sys.stderr, flush=True))  # fmt: skip
    return of_record(point, slo, extra, _of_trace(a))


def _headers(a: argparse.Namespace) -> dict[str, str]:
    key = _key(a)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _looked(a: argparse.Namespace, slo: "Slo", extra: "Mapping[str, Setting]") -> "Advice":
    from sixfold.cli.tune import seconds
    from sixfold.instrument.advisor.advice import of_windows
    from sixfold.instrument.advisor.endpoint import Replica, look

    headers = _headers(a)
    replicas = [Replica(url, headers) for url in dict.fromkeys(a.urls)]

    def tick(left: float) -> None:
        if sys.stderr.isatty():
            print(f"\rlooking, {left:.0f} s left ", end="" if left else "\n", file=sys.stderr)

    return of_windows(look(replicas, seconds(a.look), tick), slo, extra, _of_trace(a))


def _of_trace(a: argparse.Namespace) -> "Readings":
    """What a trace tells of its prompts; nothing without one."""
    if not a.trace:
        return {}
    from pathlib import Path

    from sixfold.instrument.advisor.traffic import of_trace

    return of_trace(Path(a.trace))


def _last_point(a: argparse.Namespace) -> "Point":
    from pathlib import Path

    from sixfold.core.errors import ConfigError
    from sixfold.instrument.store.read import read_points

    points = [p for p in read_points(Path(a.record)) if not a.study or p.study == a.study]
    served = [point for point in points if point.status == "ok"]
    if not served:
        raise ConfigError(f"{a.record} holds no run that was served", "run: sixfold bench --store")
    return served[-1]


def _watched(a: argparse.Namespace, slo: "Slo", extra: "Mapping[str, Setting]") -> int:
    """A line each time that the answer changes."""
    from sixfold.core.errors import ConfigError

    if not a.urls:
        raise ConfigError("--watch looks at running servers", "give their URLs")
    before = ""
    while True:
        advice = _advice(a, slo, extra)
        now = f"{advice.state} {[cause.symptom for cause in advice.causes]}"
        if now != before:
            _told(a, advice)
        before = now


def _told(a: argparse.Namespace, advice: "Advice", entries: "Sequence[Entry]" = ()) -> int:
    from pathlib import Path

    import msgspec

    from sixfold.instrument.advisor.plan import write_plan
    from sixfold.instrument.advisor.words import lines

    if a.json:
        print(msgspec.json.encode(advice).decode(), flush=True)
    else:
        print("\n".join(lines(advice)), flush=True)
    if a.report:
        write_plan(Path(a.report), advice, entries)
        print(f"{a.report}: the plan", file=sys.stderr)
    return {"healthy": 0, "found": FOUND}.get(advice.state, ABSTAINED)


def _validated(a: argparse.Namespace, slo: "Slo", extra: "Mapping[str, Setting]") -> int:
    """Examine an engine that is started here, then try what is advised."""
    from pathlib import Path

    from sixfold.instrument.advisor import scoreboard
    from sixfold.instrument.advisor.proof import Loop, to_try
    from sixfold.instrument.advisor.words import lines, verdict_words
    from sixfold.instrument.store.store import Store
    from sixfold.instrument.tuner.runner import Runner

    def tell(side: str, point: "Point") -> None:
        value = point.values.get("goodput")
        result = point.reason if value is None else f"goodput {value:.3g} req/s"
        print(f"  {side:<6} {result}", flush=True)

    def say(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    subject = _subject(a, slo)
    logs = Path(a.store).resolve().parent / "sixfold-logs"
    entries: list[Entry] = []
    with Store(Path(a.store)) as store, Runner(logs, say, progress_bar()) as runner:
        loop = Loop(subject, runner, store)
        advice = loop.examine(extra, _of_trace(a))
        if not a.json:
            print("\n".join(lines(advice)), flush=True)
        for step in to_try(advice, a.steps):
            if not a.json:
                print(f"\nTRYING {step.flags} in place of {step.undo or 'the default'}", flush=True)
            entry = loop.try_step(step, (lambda _side, _point: None) if a.json else tell)
            scoreboard.append(Path(a.scoreboard), [entry])
            entries.append(entry)
            if not a.json:
                print(f"{verdict_words(entry.verdict)}", flush=True)
    return _proven(a, advice, entries)


def _proven(a: argparse.Namespace, advice: "Advice", entries: "list[Entry]") -> int:
    from pathlib import Path

    import msgspec

    from sixfold.instrument.advisor.plan import write_plan

    if a.json:
        told = {"advice": advice, "trials": entries}
        print(msgspec.json.encode(told).decode(), flush=True)
    if a.report:
        write_plan(Path(a.report), advice, entries)
        print(f"{a.report}: the plan", file=sys.stderr)
    return {"healthy": 0, "found": FOUND}.get(advice.state, ABSTAINED)


def _subject(a: argparse.Namespace, slo: "Slo") -> "Subject":
    from sixfold.instrument.advisor.proof import Subject
    from sixfold.instrument.advisor.validate import RULES
    from sixfold.instrument.backends import backend
    from sixfold.instrument.backends.flags import check_flags
    from sixfold.instrument.backends.grid import parse_grid
    from sixfold.instrument.backends.spec import EngineSpec
    from sixfold.instrument.loadgen.client import Target
    from sixfold.instrument.loadgen.run import Limits
    from sixfold.instrument.measure import Job, check
    from sixfold.instrument.tuner.verdict import rules_up_to
    from sixfold.instrument.workloads.presets import parse_workload

    _check_consent(a)
    flags = {name.replace("-", "_"): value for name, value in parse_grid(a.flags)[0].items()}
    spec = EngineSpec(
        engine="command" if a.start_command else a.engine,
        model=a.validate,
        executable=a.executable,
        flags=flags,
        start_command=a.start_command,
        stop_command=a.stop_command,
        ready_path=backend(a.engine).ready_path if a.start_command else "",
    )
    check_flags(spec)
    job = Job(
        target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
        workload=parse_workload(a.workload),
        load=first_load(a),
        seed=a.seed,
        slo=slo,
        limits=Limits(seconds=a.seconds),
    )
    check(job)
    speaks = a.engine if a.start_command else ""
    rules = rules_up_to(a.pairs, RULES)
    return Subject(spec=spec, job=job, workload=a.workload, rules=rules, speaks=speaks)


def _check_consent(a: argparse.Namespace) -> None:
    """A server of the user's is restarted by their command and with their word, or not at all."""
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.backends.command import EXAMPLE

    if a.engine in ("command", "openai"):
        hint = (
            'say whose flags it takes, and how it is started: --engine vllm --start-command "..."'
        )
        raise ConfigError(f"--engine {a.engine} can't be given a remedy's flags", hint)
    if a.start_command and not a.allow_restart:
        hint = "add --allow-restart if this server may be started and stopped for every run"
        raise ConfigError("--start-command is not run without consent", hint)
    if a.start_command and not ("{port}" in a.start_command and "{args}" in a.start_command):
        raise ConfigError("the start command needs {port} and {args}", f"such as: {EXAMPLE}")
    if (a.stop_command or a.allow_restart) and not a.start_command:
        raise ConfigError("there is no command that starts a server", 'add --start-command "..."')
