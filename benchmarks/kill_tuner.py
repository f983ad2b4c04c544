"""Kills a real `sixfold tune` again and again (SIGKILL), resumes it, and looks for damage.

After every kill: no point that was stored is gone, none was run twice, no process of it is left.
Runs twice are found by the tuner's own log: each life tells of every point of its study, those of
the store first, and starts no server before it has told of them all. Not here: the study
(sixfold.instrument.tuner.tune).
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from recording import ROOT, save
from sixfold.core.record import Measure
from sixfold.instrument.backends.processes import Process, alive, descendants, identify
from sixfold.instrument.store.store import Store
from tables import render

MODEL = ROOT / "tests" / "golden" / "tiny_gguf" / "tiny-llama.gguf"
MARK = "SIXFOLD_KILL_MARK"
ORPHAN_SECONDS = 15.0
"""A guard ends its server within its grace; what runs after this is an orphan."""
LONGEST_LIFE = 6.0
TOLD = "  ["
"""How the tuner's line about a point begins."""
STARTS = "  starting "
"""How its line about a server begins."""


class Damage(AssertionError):
    """What must never happen."""


class Tally(msgspec.Struct, kw_only=True):
    """What came of it all."""

    kills: int = 0
    studies: int = 0
    finished: int = 0
    points: int = 0
    cut: int = 0
    """Kills that came between a point's storing and its telling."""
    servers: int = 0
    """Processes that were running under the tuner as it was killed."""
    slowest_end: float = 0.0
    """Seconds until the last of them had ended."""


def command(store: Path, seed: int) -> list[str]:
    """A study of the tiny model with many short runs."""
    return [
        sys.executable, "-m", "sixfold", "tune", str(MODEL),
        "--flags", "sixfold:num_kv_blocks=64;max_model_len=256",
        "--space", "max_num_seqs=[1,2,4];enable_prefix_caching=[true,false]",
        "--workload", "random:count=6,input=40,output=4,low=3,high=100", "--concurrency", "2",
        "--slo", "ttft:p95<5s", "--budget", "10m", "--store", str(store),
        "--study", study(seed), "--seed", str(seed),
    ]  # fmt: skip


def study(seed: int) -> str:
    """Its name in the store."""
    return f"killed-{seed}"


def contents(store: Path) -> dict[str, str]:
    """Ids and studies of all points; a store that was killed must open."""
    if not store.is_file():
        return {}
    with Store(store) as opened:
        return {point.id: point.study for _, point in opened.points()}


def marked(mark: str) -> list[Process]:
    """Everything alive that was started under the tuner, by its environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        process = identify(int(entry)) if wanted in environment.split(b"\0") else None
        found += [process] if process else []
    return found


def kill(tuner: subprocess.Popen[str]) -> list[Process]:
    """SIGKILL to the tuner alone; what ran below it at that moment."""
    os.kill(tuner.pid, signal.SIGSTOP)
    below = descendants(tuner.pid)
    os.kill(tuner.pid, signal.SIGKILL)
    tuner.wait()
    return below


def await_none(mark: str, below: list[Process]) -> float:
    """Seconds until all have ended. Raises Damage for an orphan."""
    began = time.monotonic()
    while left := {*marked(mark), *filter(alive, below)}:
        if time.monotonic() - began > ORPHAN_SECONDS:
            raise Damage(f"orphans: {sorted(left)}")
        time.sleep(0.05)
    return time.monotonic() - began


def check(before: dict[str, str], after: dict[str, str], lines: list[str], seed: int) -> bool:
    """Compare the store around a life with its log; whether a telling was cut off."""
    lost = before.keys() - after.keys()
    if lost:
        raise Damage(f"points are lost: {sorted(lost)}")
    own = [list(one.values()).count(study(seed)) for one in (before, after)]
    told = sum(line.startswith(TOLD) for line in lines)
    starts = [i for i, line in enumerate(lines) if line.startswith(STARTS)]
    replayed = sum(line.startswith(TOLD) for line in lines[: starts[0]]) if starts else own[0]
    if replayed < own[0]:
        raise Damage(f"{own[0]} runs were stored, and after {replayed} of them one was begun again")
    if told > own[1]:
        raise Damage(f"{told} runs were told of and {own[1]} are stored")
    # Past the replay each run is stored, then told; only the last telling may be missing.
    if own[1] > max(told + 1, own[0]):
        raise Damage(f"{own[1]} runs are stored and {told} were told of")
    return own[1] > max(told, own[0])


def live(store: Path, seed: int, seconds: float | None, tally: Tally) -> bool:
    """One life of a study, to its end (None) or for so long; whether it came to its end."""
    before, mark = contents(store), uuid.uuid4().hex
    log = store.with_suffix(".log")
    with log.open("w", encoding="utf-8") as out:
        tuner = subprocess.Popen(
            command(store, seed), stdout=out, stderr=subprocess.STDOUT, text=True,
            cwd=store.parent, env=os.environ | {MARK: mark, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        below: list[Process] = []
        try:
            tuner.wait(seconds)
        except subprocess.TimeoutExpired:
            below = kill(tuner)
            tally.kills += 1
        finally:
            if tuner.poll() is None:
                kill(tuner)
    if tuner.returncode not in (0, -signal.SIGKILL):
        raise Damage(f"the tuner ended with {tuner.returncode}: {log.read_text()[-2000:]}")
    tally.slowest_end = max(tally.slowest_end, await_none(mark, below))
    tally.servers += len(below)
    after = contents(store)
    lines = log.read_text(encoding="utf-8").splitlines()
    tally.cut += check(before, after, lines, seed)
    tally.points = len(after)
    return tuner.returncode == 0


def torture(store: Path, kills: int, seed: int = 0) -> Tally:
    """Kill so often, at random moments; a study that comes to its end is followed by another.

    The last one is then left to end. Raises Damage.
    """
    rng, tally = random.Random(seed), Tally()
    done = True
    while tally.kills < kills:
        tally.studies += done
        done = live(store, tally.studies, rng.uniform(0.1, LONGEST_LIFE), tally)
        tally.finished += done
        print(f"{tally.kills} kills, {tally.points} points", flush=True)
    if not done:
        live(store, tally.studies, None, tally)
        tally.finished += 1
    # A study that is over and asked for again runs nothing.
    held = contents(store)
    live(store, tally.studies, None, tally)
    log = store.with_suffix(".log").read_text(encoding="utf-8")
    if contents(store) != held or STARTS in log:
        raise Damage("a study that was over ran again")
    if tally.finished != tally.studies:
        raise Damage("a study did not come to its end")
    return tally


def main() -> int:
    """Kill, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write docs/results/kills.json")
    a = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tally = torture(Path(directory) / "kills.db", a.kills, a.seed)
    row = {
        "kills": Measure(values=[float(tally.kills)], unit="count"),
        "points": Measure(values=[float(tally.points)], unit="stored"),
        "lost": Measure(values=[0.0], unit="count"),
        "run twice": Measure(values=[0.0], unit="count"),
        "orphans": Measure(values=[0.0], unit="count"),
        "processes ended": Measure(values=[float(tally.servers)], unit="count"),
        "slowest end": Measure(values=[tally.slowest_end], unit="s"),
        "took": Measure(values=[time.monotonic() - began], unit="s"),
    }
    results = {"sixfold tune": row}
    print(f"\n{tally.studies} studies\n\n{render(results)}")
    if a.record:
        save(
            "kills", "A tuner killed and resumed", {"model": MODEL.stem, "kills": a.kills}, results
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
