"""Big buffers for weights and the KV arena: anonymous memory on huge pages.

Page-cache-backed mappings get no huge pages on most kernels, so files are copied in, once.
Sharing between engines (a memfd behind the same function) comes with the hand-off of prefixes.
"""

import mmap
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sixfold.core.errors import ConfigError

HUGE_PAGE = 2 << 20
STRETCH, PIECE = 128 << 20, 4 << 20
"""Bytes that are taken ahead of use, and at once."""


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


class PagesAhead:
    """Takes a buffer's pages a stretch ahead of their use, in a thread beside.

    A page's first touch costs its zeroing, which a step would wait for: 7 % of SmolLM2-135M's
    prefill. What is not used soon is not taken, so that memory stays free for others.
    """

    def __init__(self, buffer: NDArray[np.uint8], populate: Callable[[int, int], bool]) -> None:
        """`populate(address, bytes)` takes pages without changing them; False: it can't."""
        self._buffer, self._populate = buffer, populate
        self._taken = 0
        self._thread: threading.Thread | None = None
        self.used(0)

    @property
    def taken(self) -> int:
        """Bytes from the beginning on that are there."""
        return self._taken

    def used(self, num_bytes: int) -> None:
        """The first `num_bytes` are in use now: a thread is started if that comes near the end."""
        wanted = min(len(self._buffer), num_bytes + STRETCH)
        if self._taken >= min(len(self._buffer), num_bytes + STRETCH // 2):
            return
        if self._thread is None or not self._thread.is_alive():
            # No daemon: the interpreter must not end while a thread of it is in native code.
            self._thread = threading.Thread(target=self._take, args=(wanted,))
            self._thread.start()

    def _take(self, wanted: int) -> None:
        while self._taken < wanted and threading.main_thread().is_alive():
            size = min(PIECE, len(self._buffer) - self._taken)
            if not self._populate(self._buffer.ctypes.data + self._taken, size):
                self._taken = len(self._buffer)  # not on this system: pages come by first touch
                return
            self._taken += size


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
