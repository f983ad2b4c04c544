"""`sixfold import`: other tools' results into a store. Importing a file again adds nothing."""

import argparse
from pathlib import Path

from sixfold.cli.parsing import Parser

EXAMPLES = """known: llm-optimizer (JSON, and JSON Lines while it runs), vllm bench serve and sweep,
sglang.bench_serving, GuideLLM, AIPerf, inference-perf, JSON Lines of points; each also as .gz

examples:
  sixfold import results.json --store results.db
  sixfold import *.jsonl --store results.db --engine vllm --hardware "H100 x4\""""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold import",
        description="Take other tools' results into a store of points.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="+", metavar="FILE", help="results of a known tool")
    p.add_argument("--store", required=True, metavar="FILE", help="the store; made if need be")
    p.add_argument("--engine", default="", help="the engine, where a file does not name it")
    p.add_argument("--model", default="", help="the model, where a file does not name it")
    p.add_argument("--hardware", default="", help="the hardware, where a file does not name it")
    return p


def run(argv: list[str]) -> int:
    """Read all files, then keep their points: all or none."""
    arguments = parser().parse_args(argv)
    from sixfold.instrument.store.importers.read import completed, read_results
    from sixfold.instrument.store.store import Store

    read = [(name, read_results(Path(name))) for name in arguments.files]
    names = (arguments.engine, arguments.model, arguments.hardware)
    points = [completed(point, *names) for _, found in read for point in found]
    with Store(Path(arguments.store)) as store:
        new = store.append(points)
    for name, found in read:
        failed = sum(point.status != "ok" for point in found)
        print(
            f"{name}: {len(found)} points" + (f", {failed} of runs that failed" if failed else "")
        )
    print(f"{arguments.store}: {new} new points")
    return 0
