"""A store as another process sees it while a run appends: new points, and whether the run goes on.

Reading never disturbs the writer: a connection of its own for each read, read-only, closed before
the answer is used, so that no snapshot stays open and keeps the log from being folded in. A run
holds a shared lock on a file beside the store; the kernel drops it however the run ends. Not here:
writing points (store.py), showing them (explorer/live.py).
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import FORMAT, Point
from sixfold.instrument.store.store import APPLICATION

WAIT_SECONDS = 2.0
"""How long a read waits for the moments in which SQLite needs the file for itself."""
SUFFIX = ".running"
TWICE_SECONDS = 0.002
"""Another reader that looks holds the lock for an instant: a lock is believed at a second look."""

_decode = msgspec.json.Decoder(Point).decode


def points_after(path: Path, after: int, most: int) -> list[tuple[int, Point]]:
    """At most `most` (number, point) after a number, in the order of appending.

    Raises ConfigError if the file is no store, or can't be read now.
    """
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    query = "SELECT number, body FROM points WHERE number > ? ORDER BY number LIMIT ?"
    try:
        with contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
        ) as db:
            _refuse_others(db, path)
            rows = db.execute(query, (after, most)).fetchall()
        return [(number, _decode(body)) for number, body in rows]
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise ConfigError(f"can't read {path.name}: {error}", "is it a store?") from error


def _refuse_others(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if (application, version) != (APPLICATION, FORMAT):
        raise ConfigError(f"{path.name} is no store of points of this format", "name another file")


@contextlib.contextmanager
def under_way(path: Path) -> Iterator[None]:
    """Marks a run on a store for as long as the block lasts; several may run at once."""
    beside = path.with_name(path.name + SUFFIX)
    handle = _locked(beside)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # another run holds it: the file stays
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            beside.unlink(missing_ok=True)
        os.close(handle)


def _locked(beside: Path) -> int:
    """A handle with a shared lock on the file of that name, made if need be."""
    while True:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_SH)
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # a run that ended took the file away meanwhile


def is_under_way(path: Path) -> bool:
    """Whether a run holds its mark on a store. A run that was killed holds none."""
    if not _is_locked(path):
        return False
    time.sleep(TWICE_SECONDS)
    return _is_locked(path)


def _is_locked(path: Path) -> bool:
    try:
        handle = os.open(path.with_name(path.name + SUFFIX), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)  # and with it the lock
    return False
