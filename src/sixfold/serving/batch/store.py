"""Files and batches of a server on disk: contents as files, what is known of them in SQLite.

Everything that was answered to a client is durable first. Not here: running batches (service.py),
HTTP. One thread at a time.
"""

import os
import secrets
import sqlite3
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from sixfold.core.errors import RequestError, SixfoldError
from sixfold.serving.batch.database import open_database
from sixfold.serving.batch.objects import LIVE, BatchObject, FileObject, Listing, missing
from sixfold.serving.batch.output import sync_directory

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, kind TEXT, tenant TEXT, status TEXT,
  purpose TEXT, value BLOB);
CREATE INDEX IF NOT EXISTS by_kind ON items (kind, tenant, number);
"""

O = TypeVar("O", FileObject, BatchObject)  # noqa: E741

_KINDS: dict[type[msgspec.Struct], str] = {FileObject: "file", BatchObject: "batch"}


class BatchStore:
    """A server's directory. Raises SixfoldError where another server has it, or it can't be."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            for part in ("files", "jobs", "incoming"):
                (directory / part).mkdir(parents=True, exist_ok=True)
            self._db = open_database(directory / "batches.db", _SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise SixfoldError(
                f"files and batches can't be kept in {directory}: {error}",
                "is another server using it? choose another --batch-dir",
            ) from None
        for leftover in (directory / "incoming").iterdir():
            leftover.unlink()  # uploads that were never answered

    def close(self) -> None:
        """Let go of it."""
        self._db.close()

    # ---- files

    def incoming(self) -> Path:
        """A path for an upload that is on its way."""
        return self.directory / "incoming" / secrets.token_hex(16)

    def content(self, file_id: str) -> Path:
        """Where a file's bytes are. The id is one of ours."""
        return self.directory / "files" / file_id

    def keep(self, source: Path, file: FileObject, tenant: str) -> FileObject:
        """Take over a complete, synced file."""
        source.replace(self.content(file.id))
        sync_directory(self.directory / "files")
        self.put(file, tenant)
        return file

    def delete_file(self, file_id: str, tenant: str) -> None:
        """Forget it and its bytes. Raises NotFoundError, RequestError while a batch reads it."""
        self.get(FileObject, file_id, tenant)
        for batch, _ in self.live():
            if batch.input_file_id == file_id:
                raise RequestError(f"batch {batch.id} still reads this file", "cancel it first")
        self._db.execute("DELETE FROM items WHERE id=?", (file_id,))
        self._db.commit()
        self.content(file_id).unlink(missing_ok=True)

    # ---- files and batches

    def put(self, item: FileObject | BatchObject, tenant: str) -> None:
        """Add or change it, durably."""
        self.put_all([item], tenant)

    def put_all(self, items: list[FileObject | BatchObject], tenant: str) -> None:
        """All of them or none."""
        for item in items:
            value = msgspec.json.encode(item)
            purpose = item.purpose if isinstance(item, FileObject) else ""
            self._db.execute(
                "INSERT INTO items (id, kind, tenant, status, purpose, value) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET status=excluded.status, "
                "value=excluded.value",
                (item.id, _KINDS[type(item)], tenant, item.status, purpose, value),
            )
        self._db.commit()

    def get(self, kind: type[O], item_id: str, tenant: str) -> O:
        """A tenant's own. Raises NotFoundError."""
        found = self._db.execute(
            "SELECT value FROM items WHERE id=? AND kind=? AND tenant=?",
            (item_id, _KINDS[kind], tenant),
        ).fetchone()
        if found is None:
            raise missing(_KINDS[kind], item_id)
        return msgspec.json.decode(found[0], type=kind)

    def page(
        self, kind: type[O], tenant: str, limit: int, after: str | None, purpose: str = ""
    ) -> Listing:
        """The newest first; `after` is the last id of the page before. Raises NotFoundError."""
        before = self._number(kind, after, tenant) if after else 1 << 62
        query = "SELECT value FROM items WHERE kind=? AND tenant=? AND number<?"
        arguments: list[object] = [_KINDS[kind], tenant, before]
        if purpose:
            query += " AND purpose=?"
            arguments.append(purpose)
        query += " ORDER BY number DESC LIMIT ?"
        found = self._db.execute(query, [*arguments, limit + 1]).fetchall()
        items = [msgspec.json.decode(value, type=kind) for (value,) in found[:limit]]
        return Listing(
            data=items, has_more=len(found) > limit,
            first_id=items[0].id if items else None, last_id=items[-1].id if items else None,
        )  # fmt: skip

    def live(self) -> list[tuple[BatchObject, str]]:
        """(batch, tenant) of all that go on, the oldest first."""
        marks = ",".join("?" * len(LIVE))
        found = self._db.execute(
            f"SELECT value, tenant FROM items WHERE kind='batch' AND status IN ({marks}) "
            "ORDER BY number",
            LIVE,
        )
        return [(msgspec.json.decode(v, type=BatchObject), tenant) for v, tenant in found]

    def _number(self, kind: type[O], item_id: str, tenant: str) -> int:
        found = self._db.execute(
            "SELECT number FROM items WHERE id=? AND kind=? AND tenant=?",
            (item_id, _KINDS[kind], tenant),
        ).fetchone()
        if found is None:
            raise missing(_KINDS[kind], item_id)
        return int(found[0])


def new_file(size: int, filename: str, purpose: str, file_id: str = "") -> FileObject:
    """A file of now."""
    return FileObject(
        id=file_id or f"file-{secrets.token_hex(12)}", bytes=size, created_at=int(time.time()),
        filename=filename, purpose=purpose,
    )  # fmt: skip


def synced(path: Path) -> int:
    """The file's size, once all of it is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
