"""kill -9 at random moments, and faults of the disk at every kind of call: nothing is lost.

SIXFOLD_KILLS and SIXFOLD_FAULTS set how many; `make test-all` has the full numbers.
"""

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_target import FakeTarget
from job_harness import check_complete, job_at, prompts, run_job, write_lines

KILLS = int(os.environ.get("SIXFOLD_KILLS", "40"))
FAULTS = int(os.environ.get("SIXFOLD_FAULTS", "24"))
LINES = 400
HERE = Path(__file__).parent


def questions() -> list[dict]:
    """Some ask the same, so that copies are killed, too."""
    asked = prompts(LINES)
    for i, item in enumerate(asked[::5]):
        item |= {"prompt": f"same {i % 9}", "temperature": 0}
    return asked


def forked(job, seed: int) -> int:
    """Run the job in a child; its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_job(job, FakeTarget(seed=seed, delay=0.004))
            code = 0
        finally:
            os._exit(code)
    return child


def test_killed_at_any_moment_every_line_ends_once_and_what_is_done_stays(tmp_path):
    rng, asked, kills, number = random.Random(7), questions(), 0, 0
    while kills < KILLS:
        number += 1
        directory = tmp_path / f"{number}"
        directory.mkdir()
        source = write_lines(directory / "in.jsonl", asked)
        job = job_at(source, directory / "out.jsonl", keep_order=number % 3 == 0)
        kept = b""
        while True:
            child = forked(job, number)
            time.sleep(rng.uniform(0.0, 0.12))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
                break
            kills += 1
            part = job.parts[0]
            if part.exists():
                grown = part.read_bytes()
                whole = committed(job, grown)
                assert whole.startswith(kept), "finished bytes have changed"
                kept = whole
        check_complete(job, asked)
        if not job.keep_order:
            assert job.output.read_bytes().startswith(kept)
        shutil.rmtree(directory)


def committed(job, grown: bytes) -> bytes:
    """What of the results is marked as done."""
    copy = job.ledger.with_name("copy.ledger")
    for suffix in ("", "-wal"):
        source = Path(f"{job.ledger}{suffix}")
        if source.exists():
            shutil.copy(source, f"{copy}{suffix}")
    try:
        db = sqlite3.connect(copy)
        found = db.execute("SELECT value FROM job WHERE name='sizes'").fetchone()
        db.close()
    except sqlite3.DatabaseError:
        found = None
    size = json.loads(found[0])[0] if found else 0
    assert len(grown) >= size, "marked as done before its bytes were there"
    return grown[:size]


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    """A library that lets the n-th call to the disk fail."""
    library = tmp_path_factory.mktemp("shim") / "io_faults.so"
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "a C compiler is needed, as for the native module"
    command = [compiler, "-shared", "-fPIC", "-O1", str(HERE / "io_faults.c"), "-o", str(library)]
    subprocess.run([*command, "-ldl"], check=True)
    return library


def run_with(shim: Path, directory: Path, fault: dict[str, str]) -> subprocess.CompletedProcess:
    environment = os.environ | {"LD_PRELOAD": str(shim), "FAULT_PATH": "out.", **fault}
    paths = [str(HERE), *sys.path]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    command = [sys.executable, str(HERE / "run_fake_job.py"), str(directory)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_whatever_the_disk_refuses_nothing_is_lost(tmp_path, shim):
    asked = prompts(120)
    counting = tmp_path / "count"
    counting.mkdir()
    write_lines(counting / "in.jsonl", asked)
    log = tmp_path / "calls"
    assert run_with(shim, counting, {"FAULT_LOG": str(log)}).returncode == 0
    calls = int(log.read_text())
    assert calls > 20, "the library saw no calls"
    rng = random.Random(3)
    kinds = [("ENOSPC", "stay"), ("EIO", "once"), ("ENOSPC", "short"), ("EIO", "stay")]
    failed = 0
    for number in range(FAULTS):
        directory = tmp_path / f"{number}"
        directory.mkdir()
        write_lines(directory / "in.jsonl", asked)
        name, kind = kinds[number % len(kinds)]
        at = 1 + (number * calls // FAULTS + rng.randrange(max(1, calls // FAULTS))) % calls
        fault = {"FAULT_AT": str(at), "FAULT_ERRNO": str(getattr(errno, name)), "FAULT_KIND": kind}
        result = run_with(shim, directory, fault)
        assert result.returncode in (0, 1), result.stderr
        assert "Traceback" not in result.stderr, result.stderr
        if result.returncode:
            failed += 1
            assert "error: " in result.stderr and "hint: " in result.stderr, result.stderr
        job = job_at(directory / "in.jsonl", directory / "out.jsonl")
        run_job(job)
        check_complete(job, asked)
        shutil.rmtree(directory)
    assert failed > FAULTS / 3, "most faults were not noticed"
