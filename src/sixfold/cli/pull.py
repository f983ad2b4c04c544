"""`sixfold pull`: fetch a model into the cache, with a progress bar."""

import argparse
import sys

from sixfold.cli.parsing import Parser

EXAMPLES = """examples:
  sixfold pull smollm2-135m
  sixfold pull gemma3-270m --accept-license
  sixfold pull Qwen/Qwen3-0.6B        needs the extra: pip install "sixfold[hub]" """


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold pull",
        description="Fetch a model. An interrupted pull goes on where it stopped.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", help="a known name, or ORG/NAME of a hub")
    p.add_argument("--accept-license", action="store_true", help="accept the model's own terms")
    return p


class Bar:
    """One line on a terminal, a line per tenth elsewhere."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._tenth = -1

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show `done` of `total` bytes."""
        share = min(1.0, done / total) if total else 0.0
        if self._tty:
            bar = ("#" * int(30 * share)).ljust(30, ".")
            size = f"{done >> 20}/{total >> 20} MiB"
            print(f"\r{bar} {share:4.0%} {size} {what:<40.40}", end="", file=sys.stderr)
            self._tenth = 0
        elif int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            print(f"{share:4.0%} {what}", file=sys.stderr)

    def close(self) -> None:
        """End the line."""
        if self._tty and self._tenth >= 0:
            print(file=sys.stderr)


def run(argv: list[str]) -> int:
    """Fetch and say where."""
    arguments = parser().parse_args(argv)
    from sixfold.engine.models.pull import pull

    bar = Bar()
    try:
        path = pull(arguments.model, None, arguments.accept_license, bar)
    finally:
        bar.close()
    print(path)
    return 0
