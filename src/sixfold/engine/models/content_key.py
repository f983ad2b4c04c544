"""The digest of a model's weight files, remembered so that a warm start does not hash again.

A file is taken to be unchanged while its path, size and modification time are; the memo is one
small JSON file in the cache directory. Losing it, or not being able to write it, costs time only.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sixfold.core.errors import ModelError
from sixfold.engine.models.file_reader import FileReader
from sixfold.engine.models.json_file import read_json

MEMO = "content_keys.json"
MAX_ENTRIES = 4096
_CHUNK = 1 << 22


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file. Raises ModelError."""
    reader, digest = FileReader(path), hashlib.sha256()
    for offset in range(0, reader.size, _CHUNK):
        digest.update(reader.read(offset, min(_CHUNK, reader.size - offset)))
    return digest.hexdigest()


def content_key(paths: Sequence[Path], cache_dir: Path) -> str:
    """Hex SHA-256 of one file, or of the digests and names of several. Raises ModelError."""
    memo = _load(cache_dir / MEMO)
    digests = {path: memo.get(_identity(path)) or sha256_file(path) for path in paths}
    remember(digests, cache_dir)
    if len(paths) == 1:
        return digests[paths[0]]
    lines = "".join(f"{digests[p]}  {p.name}\n" for p in sorted(paths, key=lambda p: p.name))
    return hashlib.sha256(lines.encode()).hexdigest()


def remember(digests: dict[Path, str], cache_dir: Path) -> None:
    """Note digests that are known to be right (just computed, just checked)."""
    memo = _load(cache_dir / MEMO)
    new = {_identity(path): digest for path, digest in digests.items()}
    if new.items() <= memo.items():
        return
    kept = dict([*memo.items(), *new.items()][-MAX_ENTRIES:])
    with contextlib.suppress(OSError):
        cache_dir.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache_dir, prefix=MEMO)
        try:
            with os.fdopen(handle, "w") as f:
                json.dump(kept, f, indent=0)
            os.replace(name, cache_dir / MEMO)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _identity(path: Path) -> str:
    try:
        real = path.resolve()
        stat = real.stat()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", "check the path") from error
    return f"{real}|{stat.st_size}|{stat.st_mtime_ns}"


def _load(path: Path) -> dict[str, str]:
    try:
        memo = read_json(path)
    except ModelError:
        return {}
    # A damaged entry must cost a hash, not become a cache key.
    return {
        k: v for k, v in memo.items()
        if isinstance(v, str) and len(v) == 64 and set(v) <= set("0123456789abcdef")
    }  # fmt: skip
