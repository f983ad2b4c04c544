"""What this CPU is and what it may use: ISA tier, allowed threads, probed limits.

Does not import the native module unless it is asked for tiers or limits.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from sixfold.core.errors import ConfigError
from sixfold.core.record import cpu_model


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """`tiers` are those that this CPU and this build can run, best last."""

    model: str
    threads: int
    tiers: tuple[str, ...]

    @property
    def tier(self) -> str:
        """The best tier."""
        return self.tiers[-1] if self.tiers else "reference"


def allowed_threads() -> int:
    """Threads that affinity and the cgroup's CPU quota leave to this process, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cgroup_quota(Path("/"))
    return max(1, min(count or 1, math.ceil(quota) if quota else count or 1))


def cgroup_quota(root: Path) -> float:
    """CPUs that this process's cgroup and those above it allow (v2, then v1); 0 without a limit.

    `root` is where /proc and /sys are.
    """
    base = root / "sys/fs/cgroup"
    unified = [_ratio(*_words(folder / "cpu.max", 2)) for folder in _own_folders(root, base)]
    limits = [limit for limit in unified if limit]
    if limits:
        return min(limits)
    old = base / "cpu"
    quota, period = _words(old / "cpu.cfs_quota_us", 1), _words(old / "cpu.cfs_period_us", 1)
    return _ratio(*quota, *period)


def _own_folders(root: Path, base: Path) -> list[Path]:
    """The folder of this process's cgroup in version 2, and all above it up to `base`."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folders = [base]
    for part in own.split("/") if own and ".." not in own else []:
        folders.append(folders[-1] / part)
    return folders


def _words(path: Path, count: int) -> list[str]:
    """The file's words, or as many empty ones."""
    try:
        words = path.read_text().split()
    except OSError:
        words = []
    return words if len(words) == count else [""] * count


def _ratio(limit: str, period: str) -> float:
    """CPUs; 0 for "max", -1 and whatever is no number."""
    known = limit.isdigit() and period.isdigit() and int(limit) > 0 and int(period) > 0
    return int(limit) / int(period) if known else 0.0


def detect() -> CpuInfo:
    """Read the CPU's name and the tiers it can run."""
    return CpuInfo(cpu_model(), allowed_threads(), _native_tiers())


def _native_tiers() -> tuple[str, ...]:
    try:
        from sixfold.engine.kernels import ops
    except ImportError:
        return ()
    return ops.tiers()


def choose_tier(isa: str) -> str:
    """The tier to run: `isa`, or $SIXFOLD_ISA, or the best. Raises ConfigError if it can't run."""
    tiers = _native_tiers()
    wanted = os.environ.get("SIXFOLD_ISA", "") if isa == "auto" else isa
    if not wanted or wanted == "auto":
        return tiers[-1]
    if wanted not in tiers:
        raise ConfigError(f"ISA tier {wanted!r} does not run here", f"choose: {', '.join(tiers)}")
    return wanted


def probe(seconds: float = 2.0) -> dict[str, float]:
    """Limits of this machine with all allowed threads: read_gb_s, f32_gflop_s, bf16_gflop_s,
    int8_gop_s (0 where the tier has no such instruction). Takes about `seconds`."""
    from sixfold.engine.kernels import ops

    return ops.probe_limits(choose_tier("auto"), allowed_threads(), seconds)
