"""All parsers fuzzed for SIXFOLD_FUZZ_SECONDS (60), from another seed each time.

In a process of its own, whose memory is bounded. What it finds is kept in a file, and its seed is
printed. Speed decides nothing here but the number of cases.
"""

import os
import subprocess
import sys
from pathlib import Path

SECONDS = float(os.environ.get("SIXFOLD_FUZZ_SECONDS", "60"))
PROGRAM = Path(__file__).parent / "run_fuzz.py"


def test_a_minute_of_mutants_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--seconds", str(SECONDS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    kept = [path.read_bytes()[:2000] for path in tmp_path.iterdir()]
    assert done.returncode == 0, (done.stdout, done.stderr[-2000:], kept)
    cases, _, rest = done.stdout.partition(" ")
    assert int(cases) > 0 and "none wrong" in rest
