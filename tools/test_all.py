"""`make test-all`: every test at its full numbers, stage by stage, resumable; leaves a record.

Done stages are kept in build/test-all.json for the commit that they ran on, so that Ctrl-C or a
kill costs one stage. Writes docs/results/full-tests.json when stages have passed. Not here: what
is tested (tests/), the quick cut (`make test`).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / "build" / "test-all.json"
SUMMARY = re.compile(r"(\d+) (passed|failed|skipped|errors?)")
TIERS = ("avx512_bf16", "avx512_vnni", "avx2", "generic")
DTYPES = ("bf16", "int8", "int4", "f32")
OPS = "tests/engine/kernels/test_random_shapes.py"
SHAPES = {"SIXFOLD_OP_SHAPES": "10000", "OPENBLAS_NUM_THREADS": "1"}
"""The reference's products are so small that more threads of BLAS only wait."""
INVARIANCE = "tests/engine/test_invariance.py"


@dataclass(frozen=True)
class Stage:
    """A part of the tests: pytest's arguments, and the environment that sets the full numbers."""

    title: str
    arguments: tuple[str, ...]
    numbers: dict[str, str] = field(default_factory=dict)
    fuzz: bool = False
    """Arguments are those of tests/fuzz/run_fuzz.py instead."""


def kernel_stages() -> dict[str, Stage]:
    """Every op against the reference."""
    return {
        "ops": Stage(
            "10,000 random shapes of every op but attention, on every tier",
            (OPS, "-n", "auto", "-k", "not attention"),
            SHAPES,
        ),
        "attention": Stage(
            "10,000 random sessions of attention, on every tier",
            (OPS, "-n", "auto", "-k", "attention"),
            SHAPES,
        ),
    }


def engine_stages() -> dict[str, Stage]:
    """What the engine's strategies must hold to, at full numbers."""
    return {
        "draws": Stage(
            "a million draws under speculation, for every way to sample",
            ("tests/engine/speculative/test_exact_sampling.py",),
            {"SIXFOLD_DRAWS": "1000000"},
        ),
        "lossless": Stage(
            "100,000 tokens of smollm2-135m with each technique on and off",
            ("tests/engine/test_lossless.py",),
            {"SIXFOLD_LOSSLESS_MODEL": "smollm2-135m", "SIXFOLD_LOSSLESS_TOKENS": "100000"},
        ),
        "pairs": Stage(
            "10,000 tokens of a tiny model with each pair of techniques",
            ("tests/engine/test_lossless.py",),
            {"SIXFOLD_LOSSLESS_TOKENS": "10000", "SIXFOLD_PAIR_TOKENS": "10000"},
        ),
        "cancels": Stage(
            "10,000 cancels in every phase",
            ("tests/engine/test_cancels.py",),
            {"SIXFOLD_CANCELS": "10000"},
        ),
        "blocks": Stage(
            "offloaded blocks: killed at 200 moments while writing",
            ("tests/engine/offload",),
            {"SIXFOLD_KILLS": "200"},
        ),
        "batch": Stage(
            "a batch killed at 1,000 moments, 200 faults of its disk",
            ("tests/serving/batch/test_kills.py",),
            {"SIXFOLD_KILLS": "1000", "SIXFOLD_FAULTS": "200"},
        ),
        "batch-model": Stage(
            "sixfold batch on smollm2-135m, killed 50 times with its engine",
            ("tests/cli/test_batch.py", "-k", "killed"),
            {"SIXFOLD_BATCH_MODEL": "smollm2-135m", "SIXFOLD_BATCH_KILLS": "50"},
        ),
    }


def stages() -> dict[str, Stage]:
    """Everything, the quickest first."""
    found = {
        "quick": Stage("all tests, quick cut", ("-m", "not slow")),
        "fuzz": Stage("parsers fuzzed for 60 s", ("--seconds", "60"), fuzz=True),
        "stateful": Stage(
            "scheduler and KV cache, 10,000 random runs",
            ("-m", "slow", "tests/engine/scheduler/test_stateful.py"),
            {"SIXFOLD_STATEFUL_EXAMPLES": "10000"},
        ),
        "requests": Stage(
            "5,000 generated requests, fake engine and smollm2-135m",
            ("tests/serving/server/test_request_fuzz.py",),
            {"SIXFOLD_REQUEST_FUZZ_CASES": "5000", "SIXFOLD_FUZZ_MODEL": "smollm2-135m"},
        ),
        "ipc": Stage(
            "100,000 mutated frames",
            ("tests/serving/server/test_ipc.py",),
            {"SIXFOLD_IPC_FUZZ_CASES": "100000"},
        ),
        "parsers": Stage(
            "20,000 damaged files for each of five parsers of models",
            ("tests/engine/models/test_fuzz_parsers.py",),
            {"SIXFOLD_FUZZ_CASES": "100000"},
        ),
    }
    found |= (
        kernel_stages()
        | engine_stages()
        | {
            "search": Stage(
                "97 % of the best in 19 of 20 seeds on recorded grids",
                ("-m", "slow", "tests/instrument/tuner/test_recorded_grids.py"),
            ),
            "kills": Stage(
                "a tuner killed and resumed 50 times",
                ("tests/instrument/tuner/test_kills.py",),
                {"SIXFOLD_TUNER_KILLS": "50"},
            ),
        }
    )
    for tier, dtype in product(TIERS, DTYPES):
        found[f"invariance-{tier}-{dtype}"] = Stage(
            f"64 mixed prompts, smollm2-135m in {dtype}, {tier}: greedy and seeded",
            ("-m", "slow", INVARIANCE, "-k", f"real_model_64 and {tier}-{dtype}-"),
        )
    return found


def run(stage: Stage) -> tuple[dict[str, Any], bool]:
    """Run one stage; what to keep of it, and whether it passed."""
    script = ("tests/fuzz/run_fuzz.py",) if stage.fuzz else ("-m", "pytest")
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *script, *stage.arguments],
        cwd=ROOT,
        env=os.environ | stage.numbers,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(f"    {line}", end="", flush=True)
        last = line.strip() or last
    code = process.wait()
    counts = {kind: int(number) for number, kind in SUMMARY.findall(last)}
    if stage.fuzz:
        counts = {"cases": int(last.split()[0])} if code == 0 else {}
    return {"seconds": round(time.monotonic() - began, 1), "counts": counts}, code == 0


def load(commit: str) -> dict[str, Any]:
    """Stages that passed on this commit."""
    if STATE.is_file():
        state = json.loads(STATE.read_text(encoding="utf-8"))
        if state["commit"] == commit:
            return dict(state["done"])
    return {}


def keep(commit: str, done: dict[str, Any]) -> None:
    """Write the state; it appears whole or not at all."""
    STATE.parent.mkdir(exist_ok=True)
    partial = STATE.with_suffix(".partial")
    partial.write_text(json.dumps({"commit": commit, "done": done}), encoding="utf-8")
    partial.replace(STATE)


def record(done: dict[str, Any], name: str) -> None:
    """docs/results/NAME.json."""
    from recording import save
    from sixfold.core.record import Measure

    results = {
        stages()[name].title: {
            kind: Measure(values=[float(value)], unit=unit)
            for kind, unit, value in (
                *((k, "count", n) for k, n in kept["counts"].items()),
                ("took", "s", kept["seconds"]),
            )
        }
        for name, kept in done.items()
    }
    path = save(name, "Tests at their full numbers", {"command": "make test-all"}, results)
    print(f"wrote {path.relative_to(ROOT)}")


def main() -> int:
    """Run what is not done on this commit."""
    from sixfold.core.record import git_state

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=stages(), help="only these stages")
    parser.add_argument(
        "--record", nargs="?", const="full-tests", metavar="NAME",
        help="write docs/results/NAME.json of what passed (full-tests)",
    )  # fmt: skip
    arguments = parser.parse_args()
    commit, dirty = git_state(ROOT)
    done = {} if dirty else load(commit)
    failed = []
    for name, stage in stages().items():
        if name in done or (arguments.only is not None and name not in arguments.only):
            continue
        print(f"{name}: {stage.title}", flush=True)
        kept, passed = run(stage)
        if passed:
            done[name] = kept
            if not dirty:
                keep(commit, done)
        else:
            failed.append(name)
    if done and arguments.record:
        record({name: done[name] for name in stages() if name in done}, arguments.record)
    print(f"{len(done)} passed, {len(failed)} failed" + "".join(f"\n  {n}" for n in failed))
    return 1 if failed else 0


sys.path.insert(0, str(ROOT / "benchmarks"))

if __name__ == "__main__":
    sys.exit(main())
