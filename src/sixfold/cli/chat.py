"""`sixfold chat`: one question, or a conversation."""

import argparse
import sys

from sixfold.cli.generation import NOTE, Local, add_arguments, connect
from sixfold.cli.parsing import Parser
from sixfold.cli.remote import Remote

EXAMPLES = """examples:
  sixfold chat "Why is the sky blue?"
  sixfold chat --system "Answer in one word."
  sixfold chat --url http://127.0.0.1:8000"""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold chat",
        description="Talk to a model; without a question, until Ctrl-D.",
        epilog=f"{EXAMPLES}\n\n{NOTE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("question", nargs="?", help="ask this and leave")
    p.add_argument("--system", help="the system message")
    add_arguments(p)
    return p


def run(argv: list[str]) -> int:
    """Ask and print."""
    arguments = parser().parse_args(argv)
    source = connect(arguments)
    messages = [{"role": "system", "content": arguments.system}] if arguments.system else []
    if arguments.question:
        _turn(source, messages, arguments.question)
        return 0
    while True:
        try:
            question = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return 0
        if question.strip():
            _turn(source, messages, question)


def _turn(source: Local | Remote, messages: list[dict[str, str]], question: str) -> None:
    messages.append({"role": "user", "content": question})
    answer = ""
    try:
        for text in source.chat(messages):
            answer += text
            print(text, end="", flush=True)
    finally:  # an error has its own line, also after half an answer
        print()
    messages.append({"role": "assistant", "content": answer})
