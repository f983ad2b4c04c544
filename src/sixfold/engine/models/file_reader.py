"""Bounded reads of a model file: nothing outside the file can be asked for.

Reads with pread and not with mmap: if somebody truncates the file while we read, a short read is
an error that we can report, whereas a page that went away would kill the process.
"""

import os
import stat
import weakref
from pathlib import Path

from sixfold.core.errors import ModelError


class FileReader:
    """A regular file, open for reading; closed when nobody refers to it any more."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError if `path` is no regular file that can be read."""
        self.path = path
        try:
            # Asked before it is opened: opening a named pipe would block.
            if not stat.S_ISREG(path.stat().st_mode):
                raise ModelError(f"{path.name} is not a regular file", "name a model file")
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ModelError(f"cannot open {path}: {reason}", "check the path") from error
        weakref.finalize(self, os.close, self._fd)
        self.size = os.fstat(self._fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`. Raises ModelError if the file does not have them."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ModelError(
                f"{self.path.name} ends at byte {self.size}: no {size} bytes at {offset}",
                "the file is truncated or damaged: fetch it again",
            )
        parts = []
        while size:
            try:
                part = os.pread(self._fd, min(size, 1 << 30), offset)
            except OSError as error:
                raise ModelError(
                    f"cannot read {self.path.name}: {error.strerror}", "check the disk"
                ) from error
            if not part:
                raise ModelError(
                    f"{self.path.name} shrank while it was read", "do not change it while in use"
                )
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
