"""`make check`: every house rule, one command. Prints each fault as file:line and exits 1.

Not here: the rules (tools/checks/), formatting for you (`ruff format`, `ruff check --fix`).
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from checks import cards, generated, imports, sizes, texts, unsafe
from checks.tree import ROOT, Source, sources

PYTHON = sys.executable
COMMANDS = {
    "ruff check": (PYTHON, "-m", "ruff", "check", "--quiet", "."),
    "ruff format": (PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."),
    "mypy --strict": (PYTHON, "-m", "mypy", "--no-error-summary"),
}
OURS = ("src", "tools", "benchmarks", "examples")
TEXTS = (".py", ".md", ".toml", ".cpp", ".h", ".inl", ".txt", ".yml", ".sh", "")


def rules() -> dict[str, Callable[[], Iterable[object]]]:
    """Our own rules by name; each yields its findings."""
    package = [s for s in sources(".py", under=("src",))]
    ours = [s for s in sources(".py", under=OURS)]
    everything = list(sources(".py"))
    native = list(sources(".cpp", ".h", ".inl"))
    pages = list(sources(".md"))
    return {
        "import contract": lambda: imports.check_imports(package),
        "size limits": lambda: sizes.check_sizes([*ours, *native]),
        "inheritance": lambda: sizes.check_inheritance(package),
        "unsafe calls": lambda: unsafe.check_unsafe(everything),
        "nothing left open": lambda: texts.check_open([*everything, *native]),
        "no machine's paths": lambda: texts.check_places(sources(*TEXTS)),
        "links": lambda: texts.check_links(pages),
        "config docstrings": texts.check_configs,
        "generated pages": generated.check_generated,
        "strategy cards": cards.check_cards,
    }


def run_command(command: tuple[str, ...]) -> str:
    """The output of a failing command; empty if it succeeds."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip() if done.returncode else ""


def report(name: str, faults: str) -> bool:
    """Print one rule's outcome. True if it holds."""
    print(f"{'ok  ' if not faults else 'FAIL'} {name}", flush=True)
    if faults:
        print("\n".join(f"     {line}" for line in faults.splitlines()), flush=True)
    return not faults


def main() -> int:
    """Run everything; the slow tools beside our own rules."""
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        slow = {name: pool.submit(run_command, command) for name, command in COMMANDS.items()}
        own = {name: "\n".join(map(str, rule())) for name, rule in rules().items()}
        outcomes = chain(own.items(), ((name, task.result()) for name, task in slow.items()))
        held = [report(name, faults) for name, faults in outcomes]
    package: list[Source] = list(sources(".py", under=("src",)))
    print(f"     {sizes.medians(package)}; {time.monotonic() - start:.0f} s")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
