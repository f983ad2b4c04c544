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
    quota = _cgroup_quota()
    return max(1, min(count or 1, math.ceil(quota) if quota else count or 1))


def _cgroup_quota() -> float:
    """CPUs that the cgroup (v2, then v1) allows; 0 without a limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            base = Path("/sys/fs/cgroup/cpu")
            limit = (base / "cpu.cfs_quota_us").read_text().strip()
            period = (base / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 0.0
    return 0.0 if limit == "max" or int(limit) <= 0 else int(limit) / int(period)


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
