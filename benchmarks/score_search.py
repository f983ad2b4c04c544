"""Scores searches on recorded grids: how often 30 % of the runs find 97 % of the best.

Our search, random search, successive halving, and optuna's TPE where it is installed. Not here:
recording grids (record_grid.py), how a pick is judged (replay.py).
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean, median

import grids
import replay
from recording import RESULTS, save
from sixfold.core.errors import SixfoldError
from sixfold.core.record import Measure
from sixfold.instrument.tuner import tpe
from tables import render

Row = dict[str, Measure]
CEILING = "all that may be seen"


def searches() -> dict[str, replay.Make]:
    """Those that can be run here."""
    return replay.SEARCHES | ({"TPE (optuna)": tpe.TpeSearch} if tpe.installed() else {})


def row(found: list[replay.Outcome]) -> Row:
    """A table's row."""
    unit = f"of {len(found)}"
    by_grid, by_unseen = [one.ratio for one in found], [one.unseen for one in found]
    return {
        "hits": Measure(values=[float(replay.hits(by_grid))], unit=unit),
        "median ratio": Measure(values=[median(by_grid)], unit="of best"),
        "worst ratio": Measure(values=[min(by_grid)], unit="of best"),
        "hits by unseen runs": Measure(values=[float(replay.hits(by_unseen))], unit=unit),
        "median by unseen runs": Measure(values=[median(by_unseen)], unit="of best"),
        "runs given again": Measure(values=[fmean(one.reused for one in found)], unit="mean"),
    }


def score(path: Path, seeds: range) -> dict[str, Row]:
    """All rows of one grid."""
    recorded = grids.read(path)
    name = recorded.header.name
    noise, level = replay.noise_of(recorded), replay.noise_of(replay.level(recorded))
    print(f"{name}: {len(recorded.runs)} runs, noise {noise:.1%}, {level:.1%} within a round")
    rows = {f"{name}, {CEILING}": row(replay.ceilings(recorded, seeds))}
    for reading, budget in replay.budgets(recorded).items():
        for kind, make in searches().items():
            found = replay.outcomes(recorded, make, budget, seeds)
            rows[f"{name}, {reading} ({budget}), {kind}"] = row(found)
    return rows


def main() -> int:
    """Score each file, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: all in docs/results/grids")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--record", action="store_true", help="write docs/results/search.json")
    arguments = parser.parse_args()
    files = arguments.files or sorted((RESULTS / "grids").glob("*.jsonl.gz"))
    if not files:
        sys.exit("there is no recorded grid: make one with benchmarks/record_grid.py")
    results: dict[str, Row] = {}
    for path in files:
        results |= score(path, range(arguments.seeds))
    print("\n" + render(results))
    if arguments.record:
        workload = {
            "grids": ", ".join(path.name.partition(".")[0] for path in files),
            "seeds": arguments.seeds,
            "hit": f">= {replay.GOOD:.0%} of the best",
        }
        notes = "Unseen runs are held out from the searches; see benchmarks/replay.py."
        save("search", "Searches on recorded grids", workload, results, notes)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SixfoldError as error:
        sys.exit(str(error))
