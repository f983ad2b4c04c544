"""A job on disk: its input, its results, its ledger; opened, gone on with, and finished atomically.

While it runs, results grow in `OUTPUT.part`; what OUTPUT names is complete. Not here: running it.
"""

import hashlib
import os
import sqlite3
from pathlib import Path

import msgspec

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.ledger import (
    ERRORS,
    FINISHED,
    FINISHING,
    OUTPUT,
    RUNNING,
    Identity,
    Ledger,
    check_free,
)
from sixfold.serving.batch.lines import Defaults
from sixfold.serving.batch.output import sync_directory
from sixfold.serving.batch.reader import COMPRESSED, open_compressed

ENDS_BYTES = 1 << 16
"""Of the input's beginning and end, by which a changed input is told."""

COPY_BYTES = 1 << 20


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and where results go."""

    input: Path
    output: Path
    errors: Path
    defaults: Defaults = Defaults()
    answered_by: str = ""
    """Model and server: answers of another one must not be mixed in."""
    keep_order: bool = False
    """Results in the order of the lines, once all are there."""

    @property
    def ledger(self) -> Path:
        """Where the marks are."""
        return beside(self.output, ".ledger")

    @property
    def parts(self) -> tuple[Path, Path]:
        """Results and errors so far."""
        return beside(self.output, ".part"), beside(self.errors, ".part")

    def remade(self, file: int) -> bool:
        """Whether the finished file is another than the grown one: sorted, or compressed."""
        return self.keep_order or self.final(file).suffix in COMPRESSED

    def final(self, file: int) -> Path:
        """Where the results of OUTPUT or ERRORS are once the job has finished."""
        return self.output if file == OUTPUT else self.errors


def beside(path: Path, suffix: str) -> Path:
    """The path with more at its end."""
    return path.with_name(path.name + suffix)


def errors_beside(output: Path) -> Path:
    """The errors' file where none is named: out.jsonl.gz -> out.errors.jsonl.gz."""
    stem = output.name.split(".")[0]
    return output.with_name(f"{stem}.errors{output.name[len(stem) :] or '.jsonl'}")


def open_job(job: Job, restart: bool = False) -> Ledger:
    """The job's ledger, to begin or to go on with. Raises SixfoldError.

    With `restart` what is there of an earlier job is dropped.
    """
    _check_paths(job)
    if restart:
        _drop(job)
    elif job.output.exists() and not job.ledger.exists():
        raise SixfoldError(
            f"{job.output} is there already, and no job of ours made it",
            "give another output, or --restart to replace it",
        )
    try:
        ledger = Ledger(job.ledger, job.parts, _identity(job))
    except (OSError, sqlite3.Error) as error:
        raise SixfoldError(
            f"can't write to {job.output.parent}: {error}", "see to the disk"
        ) from None
    if ledger.state == FINISHING:
        try:
            _complete(job, ledger)
        except BaseException:
            ledger.close()
            raise
    return ledger


def finish(job: Job, ledger: Ledger) -> None:
    """All lines are done: let the finished files appear. Can be repeated after a SixfoldError."""
    assert ledger.state == RUNNING
    _complete(job, ledger)


def _complete(job: Job, ledger: Ledger) -> None:
    try:
        if ledger.state == RUNNING:
            for file in (OUTPUT, ERRORS):
                if job.remade(file):
                    _remake(job, ledger, file)
            ledger.set_state(FINISHING)
        _put_in_place(job)
        ledger.set_state(FINISHED)
    except (OSError, sqlite3.Error) as error:
        raise SixfoldError(
            f"results can't be put in place: {error}",
            "see to the disk; the same command goes on where this one stopped",
        ) from None


def _remake(job: Job, ledger: Ledger, file: int) -> None:
    final = job.final(file)
    with open_compressed(beside(final, ".tmp"), final.suffix) as out:
        if job.keep_order:
            for row in ledger.in_order(file):
                out.write(row)
        else:
            with job.parts[file].open("rb") as grown:
                while piece := grown.read(COPY_BYTES):
                    out.write(piece)
    fd = os.open(beside(final, ".tmp"), os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _put_in_place(job: Job) -> None:
    """Rename what is complete. Done as far as it has been done before, it goes on."""
    for file in (OUTPUT, ERRORS):
        final, part = job.final(file), job.parts[file]
        ready = beside(final, ".tmp") if job.remade(file) else part
        empty = part.exists() and part.stat().st_size == 0
        if file == ERRORS and empty:
            for leftover in (ready, final):
                leftover.unlink(missing_ok=True)
        elif ready.exists():
            ready.replace(final)
        part.unlink(missing_ok=True)
    for directory in {job.output.parent, job.errors.parent}:
        sync_directory(directory)


def _drop(job: Job) -> None:
    if job.ledger.exists():
        check_free(job.ledger)
    for path in (job.ledger, beside(job.ledger, "-wal"), *job.parts, job.output, job.errors):
        path.unlink(missing_ok=True)


def _check_paths(job: Job) -> None:
    for path in (job.output, job.errors):
        if path.resolve() == job.input.resolve():
            raise SixfoldError(f"{path} is the input itself", "give another output")
        if path.is_dir() or not path.parent.is_dir():
            raise SixfoldError(f"{path} can't be a file to write", "is its directory there?")
    if job.output == job.errors:
        raise SixfoldError("results and errors would go to one file", "give another --errors")


def _identity(job: Job) -> Identity:
    try:
        with job.input.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(file.read(ENDS_BYTES), digest_size=16)
            file.seek(max(0, size - ENDS_BYTES))
            digest.update(file.read(ENDS_BYTES))
    except OSError as error:
        raise SixfoldError(
            f"can't read {job.input}: {error.strerror}", "check the input's name"
        ) from None
    settings = msgspec.json.encode([job.answered_by, job.defaults], order="sorted").decode()
    return Identity(input=f"{size}:{digest.hexdigest()}", settings=settings)
