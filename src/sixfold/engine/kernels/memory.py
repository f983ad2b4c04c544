"""Big buffers for weights and the KV arena: anonymous memory on huge pages.

Page-cache-backed mappings get no huge pages on most kernels, so files are copied in, once.
Sharing between engines (a memfd behind the same function) comes with the hand-off of prefixes.
"""

import mmap

import numpy as np
from numpy.typing import NDArray

from sixfold.core.errors import ConfigError

HUGE_PAGE = 2 << 20


def huge_buffer(num_bytes: int) -> NDArray[np.uint8]:
    """Zeroed uint8 [num_bytes], aligned to 2 MiB, pages taken at first touch.

    Raises ConfigError where the address space or a limit does not allow it.
    """
    try:
        area = mmap.mmap(-1, num_bytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"no memory for {num_bytes / 2**20:.0f} MiB ({error})",
            "lower --kv-cache-memory-mb or --max-model-len, or choose a smaller dtype",
        ) from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(area, np.uint8)
    start = -whole.ctypes.data % HUGE_PAGE
    return whole[start : start + num_bytes]


def available_memory() -> int:
    """Bytes that can still be taken: MemAvailable, within the cgroup's limit. 0 if unknown."""
    free = 0
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            fields = dict(line.split(":", 1) for line in f)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
    limit, used = _read_int("/sys/fs/cgroup/memory.max"), _read_int("/sys/fs/cgroup/memory.current")
    return min(free, limit - used) if limit and used else free


def _read_int(path: str) -> int:
    try:
        with open(path, encoding="ascii") as f:
            return int(f.read())
    except (OSError, ValueError):
        return 0
