"""Each built strategy on against off: where it should pay, and where it should not.

On and off run as interleaved pairs, each pair on prompts of its own, and the tuner's rules call
the result. Not here: the workloads (strategy_cases.py), the demo's single table (demo.py).
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

import servers
from recording import save
from sixfold.core.point import Point
from sixfold.core.record import Measure
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.loadgen.arrivals import Arrivals
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job, describe_load
from sixfold.instrument.tuner.outcome import lower_is_better
from sixfold.instrument.tuner.runner import PlannedRun, Runner
from sixfold.instrument.tuner.spaces import read_switch
from sixfold.instrument.tuner.verdict import CallRules, Comparison, Look, compare, pair_order
from sixfold.instrument.workloads.presets import parse_workload
from sixfold.strategies import CARDS, Card
from strategy_cases import CASES, COMMON, Case, Use
from tables import render

PAIRS, QUICK_PAIRS = 6, 2
ERROR = 0.04
"""Of a call, at its only look: after the last pair."""
COLUMNS = {
    "TTFT p50": ("ttft:p50", 1e3, "ms"),
    "TTFT p95": ("ttft:p95", 1e3, "ms"),
    "TPOT p50": ("tpot:p50", 1e3, "ms"),
    "ITL p99": ("itl:p99", 1e3, "ms"),
    "output": ("output_throughput", 1.0, "tok/s"),
    "cached": ("cached_rate", 100.0, "%"),
}
"""Column to metric, factor and unit."""

Pair = tuple[Point, Point]
"""Off and on, on the same prompts."""
Side = tuple[Runner, EngineSpec]
"""A server, idle while the other one runs."""


def specs_of(card: Card, model: str) -> tuple[EngineSpec, EngineSpec]:
    """Servers with the strategy off and on, by the card's own switches."""
    knob = card.knobs["sixfold"]

    def spec(switch: str) -> EngineSpec:
        flags: dict[str, Scalar] = COMMON | dict(read_switch(switch))
        return servers.sixfold(model, flags)

    return spec(knob.off or ""), spec(knob.on)


def job_of(use: Use, seed: int, quick: bool) -> Job:
    """The use's load with the prompts, and arrival times, of this seed."""
    load = use.load
    if isinstance(load, Arrivals):
        load = msgspec.structs.replace(load, seed=seed)
    workload = parse_workload(use.workload)
    if quick:
        config = msgspec.structs.replace(workload.config, count=4)
        workload = msgspec.structs.replace(workload, config=config)
    target = Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True})
    return Job(target=target, workload=workload, load=load, seed=seed)


def run_pairs(sides: Sequence[Side], use: Use, pairs: int, quick: bool) -> list[Pair]:
    """Off and on in turn, each pair on servers of its own: a lucky process is no strategy.

    A quick run keeps its servers; the runners drop their prefix caches before each run.
    """
    found: list[Pair] = []
    for number, on_first in enumerate(pair_order(pairs, seed=0)):
        job = job_of(use, number, quick)
        points: dict[bool, Point] = {}
        for on in (on_first, not on_first):
            runner, spec = sides[on]
            trial = PlannedRun(study="strategies", spec=spec, repeat=number)
            points[on] = checked(runner.run(trial, job))
        found.append((points[False], points[True]))
        off, on_value = (point.values[use.metric] for point in found[-1])
        text = f"  pair {number + 1}/{pairs} {use.metric}: {off:.4g} off, {on_value:.4g} on"
        print(text, flush=True)
        for runner, _ in sides if not quick else ():
            runner.close()
    return found


def checked(point: Point) -> Point:
    """The point, if every request was served. Raises RuntimeError."""
    if point.status != "ok" or point.values["error_rate"] > 0:
        raise RuntimeError(f"a run failed: {point.reason or 'requests were not served'}")
    return point


def call(pairs: Sequence[Pair], metric: str) -> Comparison:
    """On judged against off, at the one look that was planned."""
    off, on = ([point.values[metric] for point in side] for side in zip(*pairs, strict=True))
    rules = CallRules(looks=(Look(len(pairs), ERROR),))
    return compare(off, on, lower_is_better(metric), rules)


def columns(points: Sequence[Point]) -> dict[str, Measure]:
    """All repeats of the table's columns."""
    return {
        name: Measure(values=[point.values.get(key, 0.0) * factor for point in points], unit=unit)
        for name, (key, factor, unit) in COLUMNS.items()
    }


def told(use: Use, result: Comparison) -> str:
    """A call in words."""
    return (
        f"{use.label[0].upper()}{use.label[1:]}: {result.call}, {use.metric} on / off "
        f"{result.ratio:.3f} [{result.low:.3f}, {result.high:.3f}], {result.pairs} pairs. {use.why}"
    )


def doubts(pairs: Sequence[Pair]) -> list[str]:
    """Whether the load generator was too slow for some runs to be trusted."""
    bound = sum(bool(point.client.get("client_bound")) for pair in pairs for point in pair)
    return [f"In {bound} of {2 * len(pairs)} runs the client was late itself."] if bound else []


def described(card: Card, case: Case, model: str) -> dict[str, str]:
    """What was run, for the record."""
    knob = card.knobs["sixfold"]
    common = " ".join(f"{name}={value}" for name, value in COMMON.items())
    loads = {
        use.label: f"`{use.workload}` at "
        + " ".join(f"{name} {value}" for name, value in describe_load(use.load).items())
        for use in (case.suits, case.unsuited)
    }
    return {"model": model, "on": f"`{knob.on}`", "off": f"`{knob.off}`", "both": common} | loads


def measure(card: Card, arguments: argparse.Namespace) -> None:
    """Both uses of one strategy: print, and record if that is wanted."""
    case, quick = CASES[card.name], arguments.quick
    pairs = QUICK_PAIRS if quick else arguments.pairs
    off, on = specs_of(card, arguments.model)
    results: dict[str, dict[str, Measure]] = {}
    notes = []
    with (
        tempfile.TemporaryDirectory() as logs,
        Runner(Path(logs), print, None) as without,
        Runner(Path(logs), print, None) as with_it,
    ):
        for use, suffix in ((case.suits, ""), (case.unsuited, f": {case.unsuited.label}")):
            print(f"{card.name}: {use.label}", flush=True)
            found = run_pairs(((without, off), (with_it, on)), use, pairs, quick)
            for name, points in zip(("off", "on"), zip(*found, strict=True), strict=True):
                results[name + suffix] = columns(points)
            notes += [told(use, call(found, use.metric)), *doubts(found)]
    print("\n" + render(results) + "\n\n" + "\n".join(notes) + "\n", flush=True)
    if arguments.record:
        title = f"{card.name[0].upper()}{card.name[1:]}: {case.suits.label}"
        workload = described(card, case, arguments.model)
        save(f"strategy-{card.slug}", title, workload, results, " ".join(notes))


def main() -> None:
    """Measure the chosen strategies, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--only", choices=CASES, metavar="NAME", help=f"one of: {', '.join(CASES)}")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of each workload, at least 5")
    parser.add_argument("--quick", action="store_true", help="a few requests: does it run at all?")
    parser.add_argument("--record", action="store_true", help="write docs/results/strategy-*.json")
    arguments = parser.parse_args()
    if arguments.quick and arguments.record:
        parser.error("a quick run is no result: leave out --quick or --record")
    if arguments.pairs < 5:
        parser.error("fewer than 5 pairs call little: give --pairs 5 or more")
    for card in CARDS:
        if card.name in CASES and arguments.only in (None, card.name):
            measure(card, arguments)


if __name__ == "__main__":
    main()
