"""SQLite for one process at a time, durable at each commit. Not here: what is kept in it."""

import sqlite3
from pathlib import Path


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """The database with its tables. Raises sqlite3.Error; it says "locked" of another process's."""
    db = sqlite3.connect(path, timeout=1.0, isolation_level="DEFERRED", check_same_thread=False)
    try:
        # Exclusive: a second process is refused, and no shared memory file is needed.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA cache_size=-16000")
        db.executescript(schema)
        db.execute("BEGIN EXCLUSIVE")
        db.commit()
    except BaseException:
        db.close()
        raise
    return db
