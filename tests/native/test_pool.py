"""The thread pool's stress program, compiled and run (sanitizers: `make sanitize`)."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("pauses", [False, True])
def test_every_chunk_runs_once_and_in_order(tmp_path, pauses):
    """With pauses, threads lose their core between looking at a phase and falling asleep on it."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler on the path")
    program = tmp_path / "pool_stress"
    sources = [ROOT / "tests/native/pool_stress.cpp", ROOT / "native/pool.cpp"]
    flags = ["-std=c++20", "-O2", "-pthread", f"-I{ROOT / 'native'}"]
    if pauses:
        flags += ["-DSIXFOLD_POOL_PAUSE=lose_the_core", "-include", "pool_pause.h", f"-I{HERE}"]
    subprocess.run([compiler, *flags, *sources, "-o", program], check=True)
    done = subprocess.run([program, "100"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
