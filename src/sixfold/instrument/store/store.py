"""Points in one SQLite file: each is durable when `append` returns, so that a crash loses none.

Write-ahead log, synchronous FULL; several processes may read while one writes. Not here: JSON
Lines (lines.py), what points mean (core/point.py).
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import FORMAT, Point

SCHEMA = """
CREATE TABLE IF NOT EXISTS points (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    study TEXT NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS points_by_study ON points (study, key);
"""
APPLICATION = 0x51F01D  # marks the file as ours
WAIT_SECONDS = 30.0

_decode = msgspec.json.Decoder(Point).decode


class Store:
    """An open store; use it as a context manager, or call `close`."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises ConfigError if the file is not a store of this format."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ConfigError(
                f"{path.name} is no store of points: {error}", "name another file"
            ) from error
        except ConfigError:
            self._db.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Done; every point is on disk already."""
        self._db.close()

    def append(self, points: Iterable[Point]) -> int:
        """Keep points, all or none; those whose id is there already are passed over.

        On return they are on disk. The number of new ones.
        """
        rows = [(p.id, p.study, p.key, p.status, msgspec.json.encode(p).decode()) for p in points]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            before = self._db.total_changes
            self._db.executemany(
                "INSERT OR IGNORE INTO points (id, study, key, status, body) VALUES (?,?,?,?,?)",
                rows,
            )
            new = self._db.total_changes - before
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        return new

    def points(self, study: str | None = None, after: int = 0) -> Iterator[tuple[int, Point]]:
        """(number, point) in the order of appending, those of one study, or after a number."""
        query = "SELECT number, body FROM points WHERE number > ?"
        arguments: list[int | str] = [after]
        if study is not None:
            query += " AND study = ?"
            arguments.append(study)
        for number, body in self._db.execute(query + " ORDER BY number", arguments):
            yield number, _decode(body)

    def ids(self, study: str) -> set[str]:
        """Ids of a study's points: what a resumed sweep need not run again."""
        return {row[0] for row in self._db.execute("SELECT id FROM points WHERE study=?", (study,))}

    def studies(self) -> dict[str, int]:
        """Names of studies, in the order of their first point, and their numbers of points."""
        query = "SELECT study, COUNT(*) FROM points GROUP BY study ORDER BY MIN(number)"
        return dict(self._db.execute(query))

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM points").fetchone()[0])

    def _open(self) -> None:
        """Prepare, again while another process does: SQLite does not wait for a change of mode."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return self._prepare()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _prepare(self) -> None:
        """Look and create in one transaction, so that nobody sees a half-made file."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._create_or_refuse()
            self._db.execute("COMMIT")
        except BaseException:
            self._db.rollback()
            raise
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")

    def _create_or_refuse(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise ConfigError(
                f"{self.path.name} is another program's database", "name another file"
            )
        if tables and version != FORMAT:
            raise ConfigError(
                f"{self.path.name} has format {version}, this build reads {FORMAT}",
                "export it to JSON Lines with the build that wrote it",
            )
        if tables:
            return
        self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        for statement in filter(str.strip, SCHEMA.split(";")):
            self._db.execute(statement)
