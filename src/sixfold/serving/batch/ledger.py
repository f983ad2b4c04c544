"""The ledger of a job: which lines are done and where their results are. SQLite beside the files.

A group of results is appended, synced, and only then marked in one transaction together with the
files' sizes. Whatever ends the process in between, the next one cuts the files to what is marked:
a line is done with its bytes on the disk, or it is not done. Not here: the files (output.py), who
runs lines (runner.py). One thread at a time.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.database import open_database
from sixfold.serving.batch.lines import Bad, Task, id_digest
from sixfold.serving.batch.output import AppendFile, sync_directory
from sixfold.serving.batch.reader import Place

FORMAT = 1
OUTPUT, ERRORS = 0, 1
RUNNING, FINISHING, FINISHED = "running", "finishing", "finished"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lines (
  line INTEGER PRIMARY KEY, id BLOB UNIQUE, file INTEGER, start INTEGER, length INTEGER);
CREATE TABLE IF NOT EXISTS answers (
  digest BLOB PRIMARY KEY, start INTEGER, length INTEGER) WITHOUT ROWID;
"""


class Counts(msgspec.Struct, kw_only=True):
    """Of the lines that are done."""

    done: int = 0
    errors: int = 0
    copied: int = 0
    """Of `done`: answers of an earlier line that asked the same."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    """Time in which the job ran, in all its runs."""


class Row(NamedTuple):
    """A line's result. `data` ends with a newline; `file` is OUTPUT or ERRORS."""

    line: int
    file: int
    data: bytes
    digest: bytes = b""
    copied: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is of: a ledger is only gone on with for the same."""

    input: str
    """Of the input's bytes: size and digests of both ends."""
    settings: str
    """Of what decides about answers: model, defaults."""


class Todo(NamedTuple):
    """Of a window of lines: what is to be run, what can be copied, and what is no new line."""

    tasks: list[Task]
    answered: list[tuple[Task, bytes]]
    """With the row of the line that asked the same before."""
    bad: list[Bad]


class Ledger:
    """A job's. Opening it brings files and marks into agreement.

    Raises SixfoldError: another process has it, or it belongs to another job.
    """

    def __init__(self, path: Path, parts: tuple[Path, Path], identity: Identity) -> None:
        """`parts` are the files of results and of errors while the job runs."""
        self.path = path
        self._db = _open(path)
        self.files: tuple[AppendFile, AppendFile] | None = None
        try:
            self._check(identity)
            self.counts = msgspec.json.decode(self._get("counts") or b"{}", type=Counts)
            if self.state == RUNNING:
                sizes = msgspec.json.decode(self._get("sizes") or b"[0,0]", type=list[int])
                self.files = (AppendFile(parts[0], sizes[0]), AppendFile(parts[1], sizes[1]))
                sync_directory(path.parent)
                self._forget_lost(sizes)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of all files; what was not committed is lost."""
        for file in self.files or ():
            file.close()
        self.files = None
        self._db.close()

    @property
    def state(self) -> str:
        """RUNNING, FINISHING or FINISHED."""
        return (self._get("state") or RUNNING.encode()).decode()

    @property
    def frontier(self) -> Place:
        """All lines before it are done."""
        return Place(*msgspec.json.decode(self._get("frontier") or b"[0,0]", type=list[int]))

    def register(self, items: Iterable[Task | Bad]) -> Todo:
        """Take in a window of lines, in their order; says which of them are not done yet.

        A custom_id belongs to the first line that brings it.
        """
        todo = Todo([], [], [])
        items = list(items)
        done = self._done_among(items)
        for item in items:
            if item.line in done:
                continue
            if isinstance(item, Bad):
                todo.bad.append(item)
                continue
            owner = self._owner(item)
            if owner != item.line:
                todo.bad.append(_duplicate(item, owner))
                continue
            row = self._answer(item.digest) if item.digest else None
            if row is None:
                todo.tasks.append(item)
            else:
                todo.answered.append((item, row))
        return todo

    def commit(self, rows: Sequence[Row], frontier: Place, seconds: float) -> None:
        """Make results durable, in this order: bytes, then marks. Raises OSError, sqlite3.Error:
        the files may hold a torn tail then, and the ledger must be opened anew."""
        assert self.files is not None
        marks, answers = [], []
        for file in (OUTPUT, ERRORS):
            mine = [row for row in rows if row.file == file]
            start = self.files[file].size
            if mine:
                self.files[file].append(b"".join(row.data for row in mine))
                self.files[file].sync()
            for row in mine:
                marks.append((row.line, file, start, len(row.data)))
                if row.digest and file == OUTPUT and not row.copied:
                    answers.append((row.digest, start, len(row.data)))
                start += len(row.data)
        self._count(rows, seconds)
        self._db.executemany(
            "INSERT INTO lines (line, file, start, length) VALUES (?, ?, ?, ?) ON CONFLICT (line) "
            "DO UPDATE SET file=excluded.file, start=excluded.start, length=excluded.length",
            marks,
        )
        self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", answers)
        self._set("sizes", msgspec.json.encode([file.size for file in self.files]))
        self._set("counts", msgspec.json.encode(self.counts))
        self._set("frontier", msgspec.json.encode(frontier))
        self._db.commit()

    def in_order(self, file: int) -> Iterable[bytes]:
        """The rows of a file by their lines."""
        assert self.files is not None
        query = "SELECT start, length FROM lines WHERE file=? ORDER BY line"
        for start, length in self._db.execute(query, (file,)):
            yield self.files[file].read(start, length)

    def set_state(self, state: str) -> None:
        """Note it durably. FINISHED forgets the lines: nothing will ask for them."""
        self._set("state", state.encode())
        self._db.commit()
        if state == FINISHED:
            self._db.execute("DELETE FROM lines")
            self._db.execute("DELETE FROM answers")
            self._db.commit()
            self._db.execute("VACUUM")

    def _check(self, identity: Identity) -> None:
        known = self._get("identity")
        if known is None:
            self._set("format", str(FORMAT).encode())
            self._set("identity", msgspec.json.encode(identity))
            self._db.commit()
            return
        if self._get("format") != str(FORMAT).encode():
            raise SixfoldError(f"{self.path} is of another version", "start anew: --restart")
        before = msgspec.json.decode(known, type=Identity)
        for name, what in (("input", "the input has changed"), ("settings", "the settings differ")):
            if getattr(before, name) != getattr(identity, name):
                raise SixfoldError(
                    f"{what} since this job began ({self.path})",
                    "give another output, or start anew: --restart",
                )

    def _forget_lost(self, sizes: Sequence[int]) -> None:
        """Lines whose bytes are not there any more, whoever took them, are run again."""
        assert self.files is not None
        for index, file in enumerate(self.files):
            if file.size >= sizes[index]:
                continue
            lost = (index, file.size)
            first = self._db.execute(
                "SELECT min(start) FROM lines WHERE file=? AND start + length > ?", lost
            ).fetchone()[0]
            self._db.execute("UPDATE lines SET file=NULL WHERE file=? AND start + length > ?", lost)
            if index == OUTPUT:
                self._db.execute("DELETE FROM answers WHERE start + length > ?", (file.size,))
            file.cut(file.size if first is None else first)
            self._recount()
        self._set("sizes", msgspec.json.encode([file.size for file in self.files]))
        self._db.commit()

    def _recount(self) -> None:
        of = "SELECT count(*) FROM lines WHERE file=?"
        self.counts.done = self._db.execute(of, (OUTPUT,)).fetchone()[0]
        self.counts.errors = self._db.execute(of, (ERRORS,)).fetchone()[0]
        self._set("counts", msgspec.json.encode(self.counts))
        self._set("frontier", b"[0,0]")

    def _count(self, rows: Sequence[Row], seconds: float) -> None:
        c = self.counts
        c.seconds += seconds
        for row in rows:
            c.done += row.file == OUTPUT
            c.errors += row.file == ERRORS
            c.copied += row.copied
            c.prompt_tokens += row.prompt_tokens
            c.output_tokens += row.output_tokens
            c.cached_tokens += row.cached_tokens

    def _done_among(self, items: Sequence[Task | Bad]) -> set[int]:
        if not items:
            return set()
        query = "SELECT line FROM lines WHERE line BETWEEN ? AND ? AND file IS NOT NULL"
        return {line for (line,) in self._db.execute(query, (items[0].line, items[-1].line))}

    def _owner(self, task: Task) -> int:
        """The line that brought the task's custom_id first."""
        digest = id_digest(task.custom_id)
        known = self._db.execute("SELECT line FROM lines WHERE id=?", (digest,)).fetchone()
        if known is not None:
            return int(known[0])
        self._db.execute("INSERT INTO lines (line, id) VALUES (?, ?)", (task.line, digest))
        return task.line

    def _answer(self, digest: bytes) -> bytes | None:
        assert self.files is not None
        query = "SELECT start, length FROM answers WHERE digest=?"
        found = self._db.execute(query, (digest,)).fetchone()
        return None if found is None else self.files[OUTPUT].read(*found)

    def _get(self, name: str) -> bytes | None:
        found = self._db.execute("SELECT value FROM job WHERE name=?", (name,)).fetchone()
        return None if found is None else bytes(found[0])

    def _set(self, name: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", (name, value))


def _duplicate(task: Task, owner: int) -> Bad:
    # Without its custom_id: that one's result is the first line's.
    return Bad(
        line=task.line, code="duplicate_custom_id", size=task.size,
        message=f"custom_id {task.custom_id[:64]!r} is that of line {owner}",
    )  # fmt: skip


class InUseError(SixfoldError):
    """Another process has the ledger."""


def check_free(path: Path) -> None:
    """Raises InUseError while another process has the ledger there; whatever else is there."""
    try:
        _open(path).close()
    except InUseError:
        raise
    except SixfoldError:
        return


def _open(path: Path) -> sqlite3.Connection:
    try:
        return open_database(path, _SCHEMA)
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise InUseError(f"{path} is in use by another run", "wait for its end") from None
        if isinstance(error, sqlite3.OperationalError):
            raise SixfoldError(
                f"can't open {path}: {error}", "is there room, and may it be written?"
            ) from None
        raise SixfoldError(f"{path} is no ledger: {error}", "start anew: --restart") from None
