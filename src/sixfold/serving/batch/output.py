"""Append-only result files: what was committed stays as it is, what was not is cut off.

Not here: what is committed (ledger.py).
"""

import os
from pathlib import Path

from sixfold.core.errors import SixfoldError


class AppendFile:
    """A file that only grows. `size` counts what was appended; nothing is buffered here."""

    def __init__(self, path: Path, committed: int) -> None:
        """Open or create it, cut to its `committed` bytes.

        A file that is shorter keeps what it has: `size` tells.
        """
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self.size = 0
            self.cut(min(committed, os.fstat(self._fd).st_size))
        except OSError:
            os.close(self._fd)
            raise

    def append(self, data: bytes) -> None:
        """Write at the end. On OSError, of which a full disk is one, the file holds a torn tail."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self.size)
            self.size += written
            view = view[written:]

    def sync(self) -> None:
        """Return when all of it is on the disk."""
        os.fsync(self._fd)

    def cut(self, size: int) -> None:
        """Forget what comes after."""
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were appended."""
        data = os.pread(self._fd, length, offset)
        if len(data) != length:
            raise SixfoldError(
                f"{self.path} is shorter than it was", "did something else write to it? --restart"
            )
        return data

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def sync_directory(path: Path) -> None:
    """Make names in it durable: of files that were created or renamed."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
