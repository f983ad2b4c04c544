"""What we give an engine, held against the engine's own parser: recorded, and real where it is.

The recorded flags are those of tests/golden/make_engine_flags.py. With an engine at hand, name it:
SIXFOLD_SGLANG=VENV, SIXFOLD_VLLM=VENV, SIXFOLD_LLAMACPP=PROGRAM; else those tests are skipped.
"""

import os
import subprocess
import sys
from collections import ChainMap
from itertools import zip_longest
from pathlib import Path

import pytest

from sixfold.instrument.backends import backend
from sixfold.instrument.backends.flags import check_flags
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.tuner.spaces import default_space
from sixfold.strategies import CARDS

RECORDED = Path(__file__).parents[2] / "golden" / "engine_flags"
ENGINES = ("sglang", "vllm", "llamacpp")
ROUTERS = {"--policy"}
"""Flags of sglang_router, a program beside the server."""
ASK_SGLANG = """
import argparse, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
print(parser.parse_args(sys.argv[1:]).max_running_requests)
"""


def recorded(engine: str) -> set[str]:
    (path,) = RECORDED.glob(f"{engine}-*.txt")
    return set(path.read_text(encoding="utf-8").split())


def configurations(engine: str) -> list[dict[str, Scalar]]:
    """Each value of the space that is searched, in as few configurations as hold them all."""
    space = default_space(engine, lossy=True)
    named = [
        [dict(zip(parameter.names, row, strict=True)) for row in parameter.rows]
        for parameter in space.parameters
    ]
    return [dict(ChainMap(*filter(None, some))) for some in zip_longest(*named)]


def arguments(engine: str, flags: dict[str, Scalar], executable: str) -> list[str]:
    """All that the engine is given, its program left out."""
    spec = EngineSpec(engine=engine, model="m.gguf", executable=executable, flags=flags, port=8000)
    argv = backend(engine).argv(spec)
    return argv[3:] if engine == "sglang" else argv[1:]


@pytest.mark.parametrize("engine", ENGINES)
def test_all_that_we_say_is_known(engine: str) -> None:
    known = recorded(engine)
    for flags in configurations(engine):
        given = {a.partition("=")[0] for a in arguments(engine, flags, sys.executable)}
        assert {a for a in given if a.startswith("--")} <= known


@pytest.mark.parametrize("engine", ENGINES)
def test_the_cards_name_flags_that_there_are(engine: str) -> None:
    knobs = [knob for card in CARDS if (knob := card.knobs.get(engine)) is not None]
    words = {word for knob in knobs for word in f"{knob.on} {knob.off or ''}".split()}
    named = {word for word in words if word.startswith("--")}
    assert named and named - ROUTERS <= recorded(engine)


def program(engine: str) -> str:
    given = os.environ.get(f"SIXFOLD_{engine.upper()}", "")
    if not given:
        pytest.skip(f"SIXFOLD_{engine.upper()} names none")
    return given


@pytest.mark.parametrize("engine", ENGINES)
def test_a_real_engine_knows_the_whole_space(engine: str) -> None:
    executable = program(engine)
    for flags in configurations(engine):
        check_flags(EngineSpec(engine=engine, model="m", executable=executable, flags=flags))


def test_a_real_sglang_parses_our_command_lines() -> None:
    python = Path(program("sglang")) / "bin" / "python"
    for flags in configurations("sglang"):
        said = subprocess.run(
            [python, "-c", ASK_SGLANG, *arguments("sglang", flags, program("sglang"))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr[-500:]
        assert said.stdout.split()[-1] == str(flags.get("max_running_requests"))
