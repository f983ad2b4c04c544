"""Tries what is advised on forced faults, in pairs of runs, and keeps the verdicts.

With --truth each pair goes on long after the call: the mean of all pairs is the truth, and calls on
pairs drawn again from them are held against it. Writes docs/results/scoreboard.jsonl and
verdicts.json. Not here: the faults (scenario_cases.py), the calls (tuner/verdict.py).
"""

import argparse
import math
import random
import re
import sys
from statistics import fmean

from recording import RESULTS, ROOT, save
from scenario_cases import CASES, Case
from scenarios import Alone, alone, arguments, asked, objective, spec_of
from sixfold.core.errors import SixfoldError
from sixfold.core.point import Point
from sixfold.core.record import Measure
from sixfold.instrument.advisor import scoreboard
from sixfold.instrument.advisor.proof import Loop, Subject, to_try
from sixfold.instrument.advisor.validate import RULES, Verdict
from sixfold.instrument.advisor.words import verdict_words
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.run import Limits
from sixfold.instrument.measure import Job
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.outcome import lower_is_better
from sixfold.instrument.tuner.runner import Runner
from sixfold.instrument.tuner.verdict import CallRules, Look, compare
from sixfold.instrument.workloads.presets import parse_workload

DRAWS = 1000
TENTH = math.log(1.1)


def subject_of(a: argparse.Namespace, case: Case, base: Alone, rules: CallRules) -> Subject:
    """The case as an engine to examine."""
    job = Job(
        target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
        workload=parse_workload(longer(case.workload, a.longer)),
        load=case.load,
        slo=objective(case, base),
        limits=Limits(seconds=60),
    )
    return Subject(spec=spec_of(a, case), job=job, workload=longer(case.workload, a.longer),
                   rules=rules)  # fmt: skip


def longer(workload: str, times: int) -> str:
    """With so many times the requests: what a run differs by falls with their number."""
    return re.sub(r"count=(\d+)", lambda found: f"count={times * int(found[1])}", workload)


def rules_of(truth: int) -> CallRules:
    """The default; or one look after so many pairs, so that all of them are made."""
    return CallRules(looks=(Look(truth, 0.04),)) if truth else RULES


def log_gains(verdict: Verdict) -> list[float]:
    """Of each pair, so that above 0 is better."""
    sign = -1 if lower_is_better(verdict.metric) else 1
    pairs = zip(verdict.before, verdict.after, strict=True)
    return [sign * math.log(after / before) for before, after in pairs if min(before, after) > 0]


def resampled(gains: list[float], truth: float, seed: int) -> dict[str, float]:
    """Shares of calls on pairs drawn again, shifted so that the truth is `truth`."""
    rng = random.Random(seed)
    middle = fmean(gains)
    calls = {"GAIN": 0, "WORSE": 0, "NO GAIN": 0, "INCONCLUSIVE": 0}
    for _ in range(DRAWS):
        drawn = [rng.choice(gains) - middle + truth for _ in range(RULES.last)]
        for look in RULES.looks:
            after = [math.exp(value) for value in drawn[: look.pairs]]
            call = compare([1.0] * look.pairs, after, lower_is_better=False, rules=RULES).call
            if call != "INCONCLUSIVE":
                break
        calls[call] += 1
    return {name: count / DRAWS for name, count in calls.items()}


def judged(found: dict[str, Verdict]) -> dict[str, dict[str, Measure]]:
    """A row for each remedy with enough pairs: its truth, and how calls do against it."""
    rows = {}
    for name, verdict in found.items():
        gains = log_gains(verdict)
        if len(gains) < 8:
            continue
        truth = fmean(gains)
        own, tenth, none = (resampled(gains, value, 1) for value in (truth, TENTH, 0.0))
        wrong = own["WORSE" if truth > 0 else "GAIN"]
        rows[name] = {
            "truth": Measure(values=[math.expm1(truth) * 100], unit="% gain"),
            "pairs": Measure(values=[float(len(gains))], unit="pairs"),
            "wrong sign": Measure(values=[100 * wrong], unit="% of trials"),
            "called where nothing changed": Measure(
                values=[100 * (none["GAIN"] + none["WORSE"])], unit="% of trials"
            ),
            "a tenth is called": Measure(values=[100 * tenth["GAIN"]], unit="% of trials"),
        }
    return rows


def main() -> int:
    """Examine, try, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=1, help="remedies of a case to try")
    parser.add_argument("--truth", type=int, default=0, metavar="PAIRS", help="go on to so many")
    parser.add_argument("--longer", type=int, default=1, metavar="TIMES",
                        help="as many requests")  # fmt: skip
    parser.add_argument("--record", action="store_true", help="write docs/results")
    a = parser.parse_args()
    cases = [case for case in CASES if case.expected and case.kind == "bench" and not case.rate
             and asked(a, case) and (case.engine == "sixfold" or a.llama_server)]  # fmt: skip
    bases: dict[str, Alone] = {}
    entries: list[scoreboard.Entry] = []
    build = ROOT / "build"
    with Store(build / "prove.db") as store, Runner(build / "logs", print, None) as runner:
        for case in cases:
            if case.engine not in bases:
                bases[case.engine] = alone(a, case.engine)
            entries += tried(a, case, bases[case.engine], Loop(
                subject_of(a, case, bases[case.engine], rules_of(a.truth)), runner, store
            ))  # fmt: skip
    print(scoreboard.summary(entries))
    if a.record:
        keep(a, entries)
    return 0


def tried(a: argparse.Namespace, case: Case, base: Alone, loop: Loop) -> list[scoreboard.Entry]:
    """A case's steps, tried; none where nothing is found, or no flag can be set."""
    advice = loop.examine({})
    print(f"{case.name}: {[cause.symptom for cause in advice.causes] or advice.state}", flush=True)
    found = []
    for step in to_try(advice, a.steps):

        def tell(_side: str, _point: Point) -> None:
            print(".", end="", flush=True)

        entry = loop.try_step(step, tell)
        print(f"\n  {step.flags}: {verdict_words(entry.verdict)}", flush=True)
        found.append(entry)
    return found


def keep(a: argparse.Namespace, entries: list[scoreboard.Entry]) -> None:
    """The scoreboard grows; with --truth, so do the verdicts on verdicts."""
    scoreboard.append(RESULTS / "scoreboard.jsonl", entries)
    if a.truth:
        named = {f"{e.symptom}, {e.remedy}, {n}": e.verdict for n, e in enumerate(entries, 1)}
        save("verdicts", "Verdicts against a long-run truth",
             {"model": a.model, "draws": DRAWS, "pairs of the truth": a.truth,
              "times as long": a.longer}, judged(named),
             "Trials of the default budget, drawn again from the truth's own pairs.")  # fmt: skip


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SixfoldError as error:
        sys.exit(str(error))
