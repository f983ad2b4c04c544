"""`sixfold export`: a store's points as JSON Lines."""

import argparse
from pathlib import Path

from sixfold.cli.parsing import Parser

EXAMPLES = """examples:
  sixfold export results.db -o points.jsonl
  sixfold export results.db -o nightly.jsonl --study nightly"""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold export",
        description="Write a store's points as JSON Lines, in the order of appending.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("store", metavar="STORE", help="the store")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write")
    p.add_argument("--study", help="only this study's points")
    return p


def run(argv: list[str]) -> int:
    """Read, write and say how many."""
    arguments = parser().parse_args(argv)
    from sixfold.core.errors import ConfigError
    from sixfold.instrument.store.lines import write_lines
    from sixfold.instrument.store.store import Store

    path, output = Path(arguments.store), Path(arguments.output)
    if not path.is_file():
        raise ConfigError(f"there is no store {path.name}", "is the path right?")
    if output.exists() and output.samefile(path):
        raise ConfigError(f"{path.name} is the store itself", "name another file with -o")
    try:
        with Store(path) as store:
            count = write_lines(output, (p for _, p in store.points(arguments.study)))
    except OSError as error:
        raise ConfigError(f"can't write {output.name}: {error.strerror}", "name another") from error
    print(f"{output}: {count} points")
    return 0
