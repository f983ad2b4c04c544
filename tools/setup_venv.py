"""Set up .venv: build tools, a C++ compiler if the machine has none, sixfold itself (editable).

Run with any Python from 3.11 by `make`, before anything is installed: standard library only.
Not here: what to install, which is pyproject.toml's.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMPILERS = ("c++", "g++", "clang++")
ZIG_TOOLS = {"c++": "c++ -mcpu=baseline", "cc": "cc -mcpu=baseline", "ar": "ar", "ranlib": "ranlib"}
"""zig compiles for the machine it runs on unless told; the tiers bring their own flags."""


def fail(message: str, hint: str) -> None:
    """End with an error a user can act on."""
    sys.exit(f"error: {message}\nhint: {hint}")


def check_python() -> None:
    """Refuse a Python that can't build or run this package."""
    if sys.version_info < (3, 11):  # noqa: UP036, any Python may run this file
        fail(
            f"sixfold needs Python 3.11 or newer, this is {sys.version.split()[0]}",
            "make PYTHON=/path/to/python3.11",
        )
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        fail(
            f"this Python has no C headers ({header.name} is missing)",
            "install them (Debian, Ubuntu: apt-get install python3-dev), or use another PYTHON=",
        )


def create_venv(path: Path) -> Path:
    """Make the virtual environment if it is not there. Returns its Python."""
    python = path / "bin" / "python"
    if not python.exists():
        try:
            venv.create(path, with_pip=True)
        except (subprocess.CalledProcessError, OSError) as error:
            fail(
                f"can't create {path.name}: {error}",
                "install venv (Debian, Ubuntu: apt-get install python3-venv)",
            )
    return python


def pip(python: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run pip, quietly; its errors are shown as they are. `env` is given for builds."""
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if subprocess.run([*command, *arguments], env=env, cwd=ROOT).returncode:
        if env is None:
            fail("pip install failed, see above", "is a Python package index reachable?")
        fail("the native module was not built, see above", "try SIXFOLD_TOOLCHAIN=zig make setup")


def compiler_environment(python: Path) -> dict[str, str]:
    """The environment to build in: the machine's compiler, or zig's from the package index."""
    env = dict(os.environ)
    if os.environ.get("SIXFOLD_TOOLCHAIN") != "zig" and (
        "CXX" in env or any(shutil.which(name) for name in COMPILERS)
    ):
        return env
    print("no C++ compiler found: taking zig from the package index", flush=True)
    pip(python, "ziglang")
    tools = {}
    for name, verb in ZIG_TOOLS.items():
        tool = python.parent / f"sixfold-{name}"
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} -m ziglang {verb} "$@"\n')
        tool.chmod(0o755)
        tools[name] = str(tool)
    defines = [f"-DCMAKE_AR={tools['ar']}", f"-DCMAKE_RANLIB={tools['ranlib']}"]
    defines += [f"-DCMAKE_CXX_COMPILER_{n.upper()}={tools[n]}" for n in ("ar", "ranlib")]
    env.update(CXX=tools["c++"], CC=tools["cc"])
    env["CMAKE_ARGS"] = " ".join([env.get("CMAKE_ARGS", ""), *defines]).strip()
    return env


def pyproject() -> dict[str, Any]:
    """pyproject.toml, read (by a module that older Pythons lack, so it comes late)."""
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements(*extras: str) -> list[str]:
    """What extras of pyproject.toml name, extras of our own resolved."""
    found = []
    for extra in extras:
        for line in pyproject()["project"]["optional-dependencies"][extra]:
            if line.startswith("sixfold["):
                found += requirements(line[len("sixfold[") : -1])
            else:
                found.append(line)
    return found


def build_tools() -> list[str]:
    """What pyproject.toml builds with, and the programs that scikit-build-core calls."""
    build = pyproject()["build-system"]["requires"]
    return [*build, *(tool for tool in ("cmake", "ninja") if not shutil.which(tool))]


def main() -> None:
    """Do it all; every step is a no-op when it was done before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    parser.add_argument("--sanitize", default="", help="e.g. address,undefined")
    options = parser.parse_args()
    check_python()
    python = create_venv(options.venv.absolute())
    pip(python, *build_tools(), *(requirements("dev") if options.dev else []))
    env = compiler_environment(python)
    settings = [f"-Ccmake.define.SIXFOLD_SANITIZE={options.sanitize}"] if options.sanitize else []
    print("building the native module (a minute, the first time)", flush=True)
    pip(python, "--no-build-isolation", "-e", ".", *settings, env=env)


if __name__ == "__main__":
    main()
