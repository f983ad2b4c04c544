"""`sixfold VERB ...`: finds the verb's module and turns errors into exit codes.

Exit codes: 0 done, 1 an error (printed with a hint), 2 wrong usage, 130 Ctrl-C. A verb's module
is imported only when it is called, so that `--help` stays quick.
"""

import os
import sys
from importlib import import_module

VERBS = {
    "advise": "name what limits a server, what to do about it, and prove that it helps",
    "match": "find the strategies that answer a constraint or a symptom",
    "serve": "serve a model over HTTP, with OpenAI's API",
    "chat": "talk to a model, here or on a server",
    "complete": "complete a text",
    "tune": "search an engine's settings for the best under objectives",
    "batch": "answer a file of requests, durably",
    "bench": "measure a running server under a workload",
    "record": "write a trace of real traffic through a proxy, or from an access log",
    "pull": "fetch a model",
    "env": "show versions, the CPU and its measured limits",
    "import": "take other tools' results into a store of points",
    "export": "write a store's points as JSON Lines",
    "compare": "say whether one set of runs differs from another",
    "explore": "write measured points to one HTML page that works offline",
    "strategies": "list the six families of strategies and what this build has",
}

MODULES = {"import": "import_results"}
"""Verbs whose modules are named otherwise: `import` is a word of Python's own."""

EXAMPLES = """examples:
  sixfold match "TTFT spikes at peak"
  sixfold pull smollm2-135m
  sixfold serve smollm2-135m --port 8000
  sixfold chat "What is a KV cache?"
  sixfold strategies --family batching

run 'sixfold VERB --help' for a verb's options"""


def usage() -> str:
    """The text of `sixfold --help`."""
    lines = ["usage: sixfold [--version] VERB ...", "", "verbs:"]
    lines += [f"  {verb:<11} {text}" for verb, text in VERBS.items()]
    return "\n".join([*lines, "", EXAMPLES])


def module_of(verb: str) -> str:
    """The name of the module that runs a verb."""
    return f"sixfold.cli.{MODULES.get(verb, verb)}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has gone (`| head`): nothing to say, nobody to hear it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("--version", "-V"):
        from sixfold import __version__

        print(__version__)
        return 0
    if arguments[0] not in VERBS:
        return _unknown_verb(arguments[0])
    return _run(arguments[0], arguments[1:])


def _unknown_verb(verb: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean: sixfold {near[0]}" if near else "see: sixfold --help"
    print(f"error: sixfold has no verb {verb!r}\nhint: {hint}", file=sys.stderr)
    return 2


def _run(verb: str, arguments: list[str]) -> int:
    from sixfold.core.errors import SixfoldError

    try:
        code: int = import_module(module_of(verb)).run(arguments)
        return code
    except SixfoldError as error:
        if os.environ.get("SIXFOLD_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
