"""`sixfold match`: from a constraint that hurts, or a symptom, to the strategies that answer it."""

import argparse
import json
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from sixfold.cli.parsing import Parser

if TYPE_CHECKING:
    from sixfold.instrument.advisor.match import Match, Question, Step, Technique

WIDTH = 100
LABEL = 17
EXAMPLES = """examples:
  sixfold match                               all constraints and symptoms; the order of adoption
  sixfold match TTFT spikes at peak
  sixfold match "which parallelism?" --engine vllm
  sixfold match throughput
  sixfold match p99                           or ttft, tpot, itl, oom, idle, tp ...
  sixfold match cost --json"""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold match",
        description="Find the strategies that answer a constraint or a symptom: when each is most "
        "effective, when not, what it costs, what proves it, and its switch in every engine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("what", nargs="*", metavar="WHAT",
                   help="a constraint or a symptom, in words (none: the overview)")  # fmt: skip
    p.add_argument("--engine", help="only what this engine has a switch for, with that switch")
    p.add_argument("--json", action="store_true", help="print JSON")
    return p


def run(argv: list[str]) -> int:
    """Find and print."""
    arguments = parser().parse_args(argv)
    from sixfold.instrument.advisor.match import engine_named, matches, parse

    engine = engine_named(arguments.engine) if arguments.engine else None
    if not arguments.what:
        print(_overview_json(engine) if arguments.json else "\n".join(_overview(engine)))
        return 0
    question = parse(" ".join(arguments.what))
    found = matches(question, engine)
    if arguments.json:
        print(_answer_json(question, engine, found))
    else:
        print("\n".join(_answer(question, engine, found)))
    return 0


def _answer(question: "Question", engine: str | None, found: "Sequence[Match]") -> Iterator[str]:
    where = f" that {engine} has a switch for" if engine else ""
    count = f"{len(found) or 'no'} {'technique' if len(found) == 1 else 'techniques'}"
    yield f"{_kind(question)} {question.text!r}: {count}{where}"
    if not found:
        from sixfold.instrument.advisor.match import matches

        others = ", ".join(match.technique.name for match in matches(question))
        yield from _block("elsewhere", others)
    for number, match in enumerate(found, 1):
        yield ""
        yield from _technique(number, match, question)


def _technique(number: int, match: "Match", question: "Question") -> Iterator[str]:
    one = match.technique
    name = f"{number}. {one.name}"
    yield f"{name:<43} {one.status}, stage {one.stage}: {one.stage_name}"
    yield from _block("the answer" if question.kind == "complaint" else "relieves", match.why)
    yield from _block("most effective", one.effective_when)
    yield from _block("not when", one.not_when)
    yield from _block("costs", one.costs)
    yield from _block("proven by", one.metric)
    label = "switch"
    for switch in one.switches:
        yield from _block(label, f"{switch.engine + ':':<10}{switch.words}", 10)
        label = ""
    if not one.switches:
        yield from _block(label, "none of the engines covered here has one")


def _overview(engine: str | None) -> Iterator[str]:
    from sixfold.instrument.advisor.match import QUESTIONS, adoption, matches

    only = f", in {engine} only" if engine else ""
    yield f"What hurts, and what answers it, best first (* planned in this build{only}):"
    kind = ""
    for question in QUESTIONS:
        if question.kind != kind:
            kind = question.kind
            yield f"\n{_kind(question)}s"
        techniques = [match.technique for match in matches(question, engine)]
        yield from _block(question.text, _names(techniques), label=36)
    yield "\nthe order in which teams adopt them"
    for step in adoption(engine):
        yield from _step(step)
    yield '\nmore on one: sixfold match "TTFT spikes at peak"'


def _step(step: "Step") -> Iterator[str]:
    yield f"  {step.stage}. {step.name}"
    yield from _block("", step.what, label=3)
    yield from _block("", f"-> {_names(step.techniques)}", label=3)


def _names(techniques: "Sequence[Technique]") -> str:
    marked = [one.name + ("" if one.status == "built" else "*") for one in techniques]
    return ", ".join(marked) or "none"


def _kind(question: "Question") -> str:
    """The words for it: people have symptoms; cards call them complaints."""
    return "constraint" if question.kind == "constraint" else "symptom"


def _block(name: str, text: str, hang: int = 0, label: int = LABEL) -> list[str]:
    """A label and its text beside it, wrapped; lines after the first are indented by `hang`."""
    first = f"  {name:<{label - 2}} "
    rest = " " * (len(first) + hang)
    return wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _answer_json(question: "Question", engine: str | None, found: "Sequence[Match]") -> str:
    import msgspec

    rows = [
        msgspec.to_builtins(match.technique) | {"why": match.why, "strength": match.strength}
        for match in found
    ]
    shown = {"kind": question.kind, "question": question.text, "engine": engine, "matches": rows}
    return json.dumps(shown, indent=1)


def _overview_json(engine: str | None) -> str:
    import msgspec

    from sixfold.instrument.advisor.match import QUESTIONS, adoption, matches, techniques

    shown = {
        "engine": engine,
        "questions": [
            {
                "kind": question.kind,
                "question": question.text,
                "techniques": [match.technique.name for match in matches(question, engine)],
            }
            for question in QUESTIONS
        ],
        "adoption": [
            {"stage": step.stage, "name": step.name, "what": step.what,
             "techniques": [one.name for one in step.techniques]}
            for step in adoption(engine)
        ],
        "techniques": msgspec.to_builtins(techniques(engine)),
    }  # fmt: skip
    return json.dumps(shown, indent=1)
