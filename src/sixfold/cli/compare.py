"""`sixfold compare`: two sets of repeats, called; limits for CI."""

import argparse
from typing import TYPE_CHECKING

from sixfold.cli.parsing import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sixfold.core.point import Point
    from sixfold.instrument.regression import Change

EXAMPLES = """examples:
  sixfold compare before.db after.db --fail-if "ttft:p95 > +5%; output_throughput < -3%"
  sixfold compare results.db results.db --study-a main --study-b branch --metric goodput

A and B are stores, JSON Lines of points, or other tools' results. Repeats of a side are its
points; both sides must have the same model, workload and load. A limit fails only where the whole
interval is beyond it, and passes only where every run of B measured the number. Where a value is 0,
shares such as error_rate are compared in percentage points, other numbers by their means. If a
larger part of B's runs failed than of A's, that is exit code 3, whatever the limits.
Exit code 0: no limit is broken; 1: an error; 3: one is; 4: more repeats are needed to tell."""

BROKEN, UNSURE = 3, 4
SHOWN = ("output_throughput", "goodput", "ttft:p50", "ttft:p95", "tpot:p50", "itl:p95", "e2e:p95",
         "error_rate")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
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
    p.add_argument("--allow-different", action="store_true",
                   help="compare other models, workloads or loads all the same")  # fmt: skip
    p.add_argument("--fail-if", default="", help='limits: "ttft:p95 > +5%%; goodput < -3%%"')
    return p


def run(argv: list[str]) -> int:
    """Read both sides, compare, print, judge the limits."""
    a = parser().parse_args(argv)
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.regression import changed, judged, more_failures
    from sixfold.instrument.tuner.fail_if import parse_fail_if

    limits = parse_fail_if(a.fail_if) if a.fail_if else ()
    before, after = _points(a.a, a.study_a), _points(a.b, a.study_b)
    if not a.allow_different:
        _same(before, after)
    if all(point.status != "ok" for point in before):
        raise ConfigError(f"{a.a} has no run that was served", "a baseline must have run")
    lost = more_failures(before, after)
    print(f"{len(before)} runs of A, {len(after)} of B")
    if lost:
        print(f"fail    {lost}")
    wanted = dict.fromkeys([*(a.metric or SHOWN), *(limit.key for limit in limits)])
    found = {key: c for key in wanted if (c := changed(before, after, key, a.paired))}
    missing = [limit.key for limit in limits if limit.key not in found]
    if not lost and (missing or not found):
        raise ConfigError(
            f"{missing[0] if missing else 'nothing'} can't be compared: each side needs two runs "
            "or more that measured it" + (", and as many as the other" if a.paired else ""),
            "repeat the runs: sixfold bench --store, with several --seed",
        )
    for key, change in found.items():
        print(_line(key, change))
    said = ["fail"] if lost else []
    for limit in limits:
        if limit.key in found:
            one = judged(limit, found[limit.key], after)
            said.append(one.verdict)
            print(f"{one.verdict:<7} {limit}" + (f": {one.reason}" if one.reason else ""))
        else:
            print(f"unsure  {limit}: fewer than two runs of a side measured it")
    return BROKEN if "fail" in said else UNSURE if "unsure" in said else 0


def _points(name: str, study: str | None) -> "list[Point]":
    from pathlib import Path

    from sixfold.core.errors import ConfigError
    from sixfold.instrument.store.read import read_points

    points = [p for p in read_points(Path(name)) if study is None or p.study == study]
    if not points:
        raise ConfigError(f"{name} has no such point", "is the study's name right?")
    # A server that did not start tells no version: failed runs are told apart by the rest.
    served = {p.key for p in points if p.status == "ok"}
    asked = {(p.engine, p.model, str(p.config), str(p.workload), str(p.load)) for p in points}
    if len(served) > 1 or len(asked) > 1:
        raise ConfigError(
            f"{name} has points of several configurations", "choose one with --study-a, --study-b"
        )
    return points


def _same(before: "Sequence[Point]", after: "Sequence[Point]") -> None:
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.regression import differences

    found = differences(before, after)
    if found:
        shown = [str(getattr(side[0], found[0])) for side in (before, after)]
        raise ConfigError(
            f"A and B differ in {' and '.join(found)}: {shown[0]} is not {shown[1]}",
            "measure both alike, or say --allow-different",
        )


def _line(key: str, change: "Change") -> str:
    c = change.comparison
    if change.points:
        parts = [f"{100 * (x - 1):+.3g}" for x in (c.ratio, c.low, c.high)]
        return f"{c.call:<12} {key}: {parts[0]} [{parts[1]}, {parts[2]}] percentage points"
    return f"{c.call:<12} {key}: {c.ratio - 1:+.1%} [{c.low - 1:+.1%}, {c.high - 1:+.1%}]"
