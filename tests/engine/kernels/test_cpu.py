"""What a process may use: affinity, cgroup quotas, and the instruction set that is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sixfold.core.errors import ConfigError
from sixfold.engine.kernels import cpu, ops


def folder(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 0),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 0),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "rubbish\n"}, 0),
        (
            {
                "proc/self/cgroup": "0::/user/session\n",
                "sys/fs/cgroup/user/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/user/session/cpu.max": "max 100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "0::/../outside\n",
                "sys/fs/cgroup/cpu.max": "50000 100000\n",
            },
            0.5,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0,
        ),
    ],
)
def test_quotas(files: dict[str, str], cpus: float, tmp_path: Path) -> None:
    assert cpu.cgroup_quota(folder(tmp_path, files)) == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_affinity_is_respected() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from sixfold.engine.kernels import cpu; print(cpu.allowed_threads())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "1"


def test_the_tier_is_the_best_or_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIXFOLD_ISA", raising=False)
    assert cpu.choose_tier("auto") == ops.tiers()[-1]
    monkeypatch.setenv("SIXFOLD_ISA", "generic")
    assert cpu.choose_tier("auto") == "generic"
    assert cpu.choose_tier(ops.tiers()[-1]) == ops.tiers()[-1], "an argument goes before it"


def test_a_tier_that_does_not_run_here_names_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIXFOLD_ISA", "sve2")
    with pytest.raises(ConfigError, match="'sve2' does not run here") as caught:
        cpu.choose_tier("auto")
    assert "generic" in caught.value.hint
