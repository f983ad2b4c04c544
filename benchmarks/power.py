"""Whether `compare` keeps its word on real runs: false calls on A/A, and power for a true gain.

One configuration is run many times, each on a new server, as the finals of a study do. Pairs are
resampled in blocks of neighbouring runs, so that the machine's drift stays in them, and taken
through the default rules, looks and all. Not here: the rules (sixfold.instrument.tuner.verdict).
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

import grids
from making import (
    add_arguments,
    job_of,
    make,
    objective_of,
    planned,
    points_of,
    spec_of,
    store_path,
)
from recording import RESULTS, ROOT, save
from sixfold.core.errors import SixfoldError
from sixfold.core.record import Measure
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.outcome import lower_is_better
from sixfold.instrument.tuner.verdict import Call, CallRules, compare, noise_floor, pair_order
from tables import render

NAME = "aa_repeats"
FILE = RESULTS / f"{NAME}.jsonl.gz"
LEAST = 40
TRIALS = 1000
BLOCK = 4
"""Neighbouring runs that stay together: two pairs, as `pair_order` makes them."""
GAIN = 1.10
FALSE_CALLS, POWER = 0.05, 0.80
"""At most, at least."""


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of trials."""

    gain: float
    worse: float
    pairs: float
    """Mean number of pairs up to the call."""


def trial(values: Sequence[float], effect: float, lower: bool, seed: int) -> tuple[Call, int]:
    """One comparison as a tuner makes it: the call, and after how many pairs."""
    rules, rng = CallRules(), random.Random(seed)
    runs: list[float] = []
    while len(runs) < 2 * rules.last:
        start = rng.randrange(len(values) - BLOCK + 1)
        runs += values[start : start + BLOCK]
    before, after = [], []
    for i, candidate_first in enumerate(pair_order(rules.last, seed)):
        one, other = runs[2 * i], runs[2 * i + 1]
        before.append(other if candidate_first else one)
        after.append((one if candidate_first else other) * effect)
    for pairs in sorted(look.pairs for look in rules.looks):
        found = compare(before[:pairs], after[:pairs], lower, rules)
        if found.final:
            break
    return found.call, found.pairs


def calls(values: Sequence[float], effect: float, lower: bool, trials: int = TRIALS) -> Calls:
    """Of resampled trials; `effect` is the candidate's true value over the baseline's."""
    found = [trial(values, effect, lower, seed) for seed in range(trials)]
    names = [call for call, _ in found]
    return Calls(
        gain=names.count("GAIN") / trials,
        worse=names.count("WORSE") / trials,
        pairs=sum(pairs for _, pairs in found) / trials,
    )


def judged(recorded: grids.Recorded) -> tuple[list[float], Calls, Calls]:
    """The values in the order of measuring, A/A, and a true gain of 10 %."""
    objective = recorded.header.objective
    values = [run.values[objective] for run in recorded.runs if run.status == "ok"]
    lower = lower_is_better(objective)
    gain = 1 / GAIN if lower else GAIN
    return values, calls(values, 1.0, lower), calls(values, gain, lower)


def measure(a: argparse.Namespace) -> bool:
    """Make the repeats that are missing and write the file; False if it was stopped."""
    spec, job = spec_of(a), job_of(a, a.workload, int(a.concurrency))
    plan = [planned(NAME, spec, job, repeat) for repeat in range(a.repeats)]
    with Store(store_path(a, NAME, ROOT)) as store:
        if not make(plan, store, restart=True):
            return False
        points = points_of(plan, store)
    size = grids.write(grids.slim(NAME, points, job.slo, objective_of(a)), a.out)
    print(f"{a.out.name}: {len(points)} runs, {size:,} bytes")
    return True


def measures(found: Calls) -> dict[str, Measure]:
    """A table's row."""
    return {
        "called a gain": Measure(values=[100 * found.gain], unit="%"),
        "called worse": Measure(values=[100 * found.worse], unit="%"),
        "pairs to the call": Measure(values=[found.pairs], unit="mean"),
    }


def main() -> int:
    """Measure what is missing, judge, keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=48, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=FILE, help="file of the repeats")
    parser.add_argument("--only-judge", action="store_true", help="take the file as it is")
    parser.add_argument("--record", action="store_true", help="write docs/results/power.json")
    add_arguments(parser, "chat:count=8,turns=2,output=32", "8")
    a = parser.parse_args()
    if not a.only_judge and not measure(a):
        return 130
    recorded = grids.read(a.out)
    values, same, better = judged(recorded)
    floor = noise_floor([values])
    results = {"A/A": measures(same), "true gain of 10 %": measures(better)}
    print(f"\n{len(values)} repeats, coefficient of variation {floor.cv:.2%}\n\n{render(results)}")
    kept = same.gain + same.worse <= FALSE_CALLS and better.gain >= POWER
    print(f"\n{'kept' if kept else 'BROKEN'}: at most {FALSE_CALLS:.0%} false, "
          f"at least {POWER:.0%} of the gains called")  # fmt: skip
    if a.record:
        head = recorded.header
        workload = {"model": head.model, "workload": head.workload["name"], "repeats": len(values),
                    "cv %": round(100 * floor.cv, 2), "trials": TRIALS}  # fmt: skip
        notes = f"Blocks of {BLOCK} neighbouring runs of {head.objective}, resampled."
        save("power", "Calls on repeats of one configuration", workload, results, notes)
    return 0 if kept else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SixfoldError as error:
        sys.exit(str(error))
