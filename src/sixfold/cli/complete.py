"""`sixfold complete`: what follows a text."""

import argparse
import sys

from sixfold.cli.generation import NOTE, add_arguments, connect
from sixfold.cli.parsing import Parser

EXAMPLES = """examples:
  sixfold complete "Once upon a time" --max-tokens 60
  cat prompt.txt | sixfold complete - --temperature 0"""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold complete",
        description="Complete a text.",
        epilog=f"{EXAMPLES}\n\n{NOTE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("prompt", help="the text; - reads standard input")
    add_arguments(p)
    return p


def run(argv: list[str]) -> int:
    """Complete and print."""
    arguments = parser().parse_args(argv)
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    source = connect(arguments)
    try:
        for text in source.complete(prompt):
            print(text, end="", flush=True)
    finally:  # an error has its own line, also after half an answer
        print()
    return 0
