"""Grids are recorded in rounds, each configuration once in each, and go on after a stop."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import pytest

import grids
import record_grid

ROOT = Path(__file__).parents[3]
TINY = [
    "--model", str(ROOT / "tests" / "golden" / "tiny_gguf" / "tiny-llama.gguf"), "--any-size",
    "--flags", "num_kv_blocks=64;max_model_len=256",
    "--workload", "random:count=6,input=40,output=4,low=3,high=100", "--slo", "ttft:p95<9s",
    "--space", "max_num_seqs=[1,2];enable_prefix_caching=[true,false]", "--concurrency", "1,2",
]  # fmt: skip


def test_rounds_have_everything_once_and_loads_share_servers() -> None:
    plan = record_grid.plans(record_grid.parser().parse_args(["g", *TINY]))
    assert list(plan) == ["g-c1", "g-c2"]
    runs = record_grid.interleaved(plan)
    assert len({one.id for one in runs}) == len(runs) == 2 * 4 * 3
    assert all(a.trial.spec == b.trial.spec for a, b in zip(runs[::2], runs[1::2], strict=True))
    for name, own in plan.items():
        rounds = [own[i : i + 4] for i in range(0, 12, 4)]
        orders = [[repr(one.trial.spec.flags) for one in each] for each in rounds]
        assert all(len(set(order)) == 4 for order in orders) and len(set(map(tuple, orders))) > 1
        assert [{one.trial.repeat for one in each} for each in rounds] == [{0}, {1}, {2}]
        assert {one.trial.study for one in own} == {name}


def test_workloads_share_servers() -> None:
    more = "other=random:count=3,input=20,output=2,low=3,high=100"
    arguments = ["g", *TINY, "--concurrency", "2", "--also", more]
    plan = record_grid.plans(record_grid.parser().parse_args(arguments))
    assert list(plan) == ["g", "other"]
    runs = record_grid.interleaved(plan)
    assert [len(one.job.workload.build(0)) for one in runs[:4]] == [6, 3, 6, 3]
    assert all(a.trial.spec == b.trial.spec for a, b in zip(runs[::2], runs[1::2], strict=True))
    with pytest.raises(SystemExit):
        record_grid.workloads(record_grid.parser().parse_args(["g", "--also", "g=chat"]))


def test_a_stopped_recording_goes_on(tmp_path: Path) -> None:
    command = [
        sys.executable, str(ROOT / "benchmarks" / "record_grid.py"), "g", *TINY, "--repeats", "2",
        "--store", str(tmp_path / "g.db"), "--out", str(tmp_path),
    ]  # fmt: skip
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("[3/16]"):
                first.send_signal(signal.SIGINT)
    assert first.returncode == 130 and not list(tmp_path.glob("*.gz"))
    again = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert again.returncode == 0, again.stderr
    known = int(again.stdout.partition("runs, ")[2].split()[0])
    assert 3 <= known < 16
    for load in (1, 2):
        recorded = grids.read(tmp_path / f"g-c{load}.jsonl.gz")
        assert recorded.header.load == {"concurrency": load}
        assert set(recorded.runs[0].values) == {"goodput", "ttft:p95"}
        assert set(Counter(repr(run.config) for run in recorded.runs).values()) == {2}
