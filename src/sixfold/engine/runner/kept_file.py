"""Writes a small file of what was found once: it is whole, or as it was before."""

import contextlib
import os
import secrets
from pathlib import Path


def keep(path: Path, data: bytes) -> bool:
    """Whether it could be written; where not, what is in it will be found again."""
    name = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(data)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            name.unlink()
        return False
    return True
