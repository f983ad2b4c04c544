"""`sixfold compare`: two sets of repeats, called; limits for CI."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sixfold.core.point import Point
    from sixfold.instrument.tuner.verdict import Comparison

EXAMPLES = """examples:
  sixfold compare before.db after.db --fail-if "ttft:p95 > +5%; output_throughput < -3%"
  sixfold compare results.db results.db --study-a main --study-b branch --metric goodput

A and B are stores, JSON Lines of points, or other tools' results. Repeats of a side are its points
that were served; a limit fails only where the whole interval is beyond it.
Exit code 0: no limit is broken; 1: an error; 3: one is; 4: more repeats are needed to tell."""

BROKEN, UNSURE = 3, 4
SHOWN = ("output_throughput", "goodput", "ttft:p50", "ttft:p95", "tpot:p50", "itl:p95", "e2e:p95")


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = argparse.ArgumentParser(
        prog="sixfold compare",
        description="Say whether B differs from A, with intervals.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("a", help="the baseline's points")
    p.add_argument("b", help="the candidate's points")
    p.add_argument("--study-a", help="only this study of A")
    p.add_argument("--study-b", help="only this study of B")
    p.add_argument("--paired", action="store_true",
                   help="the n-th run of A and of B were made next to each other")  # fmt: skip
    p.add_argument("--metric", action="append", help="metrics to compare (default: the usual ones)")
    p.add_argument("--fail-if", default="", help='limits: "ttft:p95 > +5%%; goodput < -3%%"')
    return p


def run(argv: list[str]) -> int:
    """Read both sides, compare, print, judge the limits."""
    a = parser().parse_args(argv)
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.tuner.fail_if import parse_fail_if

    limits = parse_fail_if(a.fail_if) if a.fail_if else ()
    before, after = _points(a.a, a.study_a), _points(a.b, a.study_b)
    wanted = dict.fromkeys([*(a.metric or SHOWN), *(limit.key for limit in limits)])
    found = {key: c for key in wanted if (c := _compared(before, after, key, a.paired))}
    missing = [limit.key for limit in limits if limit.key not in found]
    if missing or not found:
        raise ConfigError(
            f"{missing[0] if missing else 'nothing'} can be compared: each side needs two runs or "
            "more that measured it",
            "repeat the runs: sixfold bench --store, with several --seed",
        )
    print(f"{len(before)} runs of A, {len(after)} of B")
    for key, comparison in found.items():
        print(_line(key, comparison))
    verdicts = [(limit, limit.judge(found[limit.key])) for limit in limits]
    for limit, verdict in verdicts:
        print(f"{verdict:<7} {limit}")
    said = [verdict for _, verdict in verdicts]
    return BROKEN if "fail" in said else UNSURE if "unsure" in said else 0


def _points(name: str, study: str | None) -> "list[Point]":
    from pathlib import Path

    from sixfold.core.errors import ConfigError
    from sixfold.instrument.store.read import read_points

    points = [p for p in read_points(Path(name)) if study is None or p.study == study]
    served = [p for p in points if p.status == "ok"]
    if not served:
        raise ConfigError(f"{name} has no point that was served", "is the study's name right?")
    if len({p.key for p in served}) > 1:
        raise ConfigError(
            f"{name} has points of several configurations", "choose one with --study-a, --study-b"
        )
    return served


def _compared(
    before: "Sequence[Point]", after: "Sequence[Point]", key: str, paired: bool
) -> "Comparison | None":
    from sixfold.instrument.tuner.outcome import lower_is_better
    from sixfold.instrument.tuner.verdict import CallRules, Look, compare

    sides = [[p.values[key] for p in side if p.values.get(key, 0) > 0] for side in (before, after)]
    count = min(map(len, sides))
    if count < 2 or (paired and len(sides[0]) != len(sides[1])):
        return None
    # All repeats are there: it is looked at once, with the whole error.
    rules = CallRules(looks=(Look(count, 0.04),))
    return compare(sides[0], sides[1], lower_is_better(key), rules, paired=paired)


def _line(key: str, c: "Comparison") -> str:
    return f"{c.call:<12} {key}: {c.ratio - 1:+.1%} [{c.low - 1:+.1%}, {c.high - 1:+.1%}]"
