"""Runs a server's batches, one after the other, in the background of its interactive work.

What was begun goes on after a restart: a batch is a job (job.py) in the server's own directory.
Not here: HTTP, what is kept (store.py).
"""

import asyncio
import contextlib
import hashlib
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sixfold.core.errors import OverloadedError, RequestError, SixfoldError
from sixfold.serving.batch import objects
from sixfold.serving.batch.job import Job, finish, open_job
from sixfold.serving.batch.ledger import FINISHED, Counts
from sixfold.serving.batch.lines import URLS, Defaults, Task
from sixfold.serving.batch.objects import (
    BatchError,
    BatchErrors,
    BatchObject,
    FileObject,
    RequestCounts,
)
from sixfold.serving.batch.reader import LineReader, Place
from sixfold.serving.batch.runner import Options, answer_lines
from sixfold.serving.batch.store import BatchStore, new_file, synced
from sixfold.serving.batch.target import Answer, Target

PATIENCE = 86400.0
"""Seconds that a batch waits for an engine that keeps dying: as long as a batch may take."""

WINDOW_SECONDS = 86400
EXPIRED_BODY = b'{"error":{"code":"batch_expired","message":"the batch\'s time was over"}}'

T = TypeVar("T")


class _Refuses:
    """Answers what is left of a batch whose time is over."""

    places = 256

    async def answer(self, task: Task, ticket: int) -> Answer:
        """See Target."""
        return Answer(status=408, body=EXPIRED_BODY)


class Pace:
    """How fast the running batch has been since this server took it up."""

    def __init__(self, before: int, began: float) -> None:
        """`before`: lines that were done then; `began`: on the clock of `ends_in`."""
        self._before, self._began = before, began

    def ends_in(self, counts: RequestCounts, now: float) -> float | None:
        """Seconds until every line is done; None while nothing tells."""
        done = counts.completed + counts.failed
        if done <= self._before:
            return None
        return (counts.total - done) * (now - self._began) / (done - self._before)


class BatchService:
    """All batches of a server. `target` makes what answers a tenant's lines, once it can.

    The directory is made when the first file comes, and held from then on.
    """

    def __init__(
        self, directory: Path, model: str, target: Callable[[str], Awaitable[Target]]
    ) -> None:
        """`model`: answers of another one are not mixed into a batch that it began."""
        self._directory = directory
        self._model = model
        self._target = target
        self._store: BatchStore | None = None
        self._thread = ThreadPoolExecutor(1, "batch-store")
        self._queue: asyncio.Queue[tuple[BatchObject, str]] = asyncio.Queue()
        self._cancelled: set[str] = set()
        self._running: tuple[str, asyncio.Task[Counts]] | None = None
        self._counts = RequestCounts()
        self._pace = Pace(0, time.monotonic())

    async def stored(self, work: Callable[[BatchStore], T]) -> T:
        """Run `work` on the store, in its thread: what it writes is durable afterwards.

        Raises OverloadedError where another server has the directory, or it can't be written.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(self._opened()))

    def _opened(self) -> BatchStore:
        if self._store is None:
            try:
                self._store = BatchStore(self._directory)
            except SixfoldError as error:
                raise OverloadedError(error.message, error.hint, retry_after=60) from None
        return self._store

    async def create(
        self, tenant: str, file_id: str, endpoint: str, metadata: dict[str, str] | None
    ) -> BatchObject:
        """A new batch. Raises NotFoundError, RequestError."""
        if endpoint not in URLS:
            raise RequestError(
                f"endpoint must be one of {', '.join(URLS)}", "choose one", "endpoint"
            )
        file = await self.stored(lambda store: store.get(FileObject, file_id, tenant))
        if file.purpose != "batch":
            raise RequestError(
                f"{file_id} was not uploaded with purpose batch", "upload it so", "input_file_id"
            )
        now = int(time.time())
        made = hashlib.blake2b(f"{file_id}{time.time_ns()}".encode(), digest_size=12).hexdigest()
        batch = BatchObject(
            id=f"batch_{made}", endpoint=endpoint, input_file_id=file_id, completion_window="24h",
            created_at=now, expires_at=now + WINDOW_SECONDS, metadata=metadata,
        )  # fmt: skip
        await self.stored(lambda store: store.put(batch, tenant))
        self._queue.put_nowait((batch, tenant))
        return batch

    async def get(self, tenant: str, batch_id: str) -> BatchObject:
        """As it is now. Raises NotFoundError."""
        batch = await self.stored(lambda store: store.get(BatchObject, batch_id, tenant))
        if self._running is not None and self._running[0] == batch_id:
            batch.request_counts = self._counts
            left = self._pace.ends_in(self._counts, time.monotonic())
            batch.estimated_completion_at = None if left is None else int(time.time() + left)
        return batch

    async def cancel(self, tenant: str, batch_id: str) -> BatchObject:
        """Stop it; what was answered is kept. Raises NotFoundError, RequestError."""
        batch = await self.get(tenant, batch_id)
        if batch.status not in (objects.QUEUED, objects.RUNNING, objects.CANCELLING):
            raise RequestError(f"the batch is {batch.status} already", param="batch_id")
        batch.status, batch.estimated_completion_at = objects.CANCELLING, None
        batch.cancelling_at = batch.cancelling_at or int(time.time())
        await self.stored(lambda store: store.put(batch, tenant))
        self._cancelled.add(batch_id)
        if self._running is not None and self._running[0] == batch_id:
            self._running[1].cancel()
        return batch

    async def run(self) -> None:
        """Batches, until cancelled; those that were begun before first."""
        try:
            await self._resume()
            while True:
                batch, tenant = await self._queue.get()
                try:
                    await self._run_batch(batch, tenant)
                except SixfoldError as error:
                    await self._failed(batch, tenant, error)
                except Exception as error:
                    print(f"sixfold: batch {batch.id} failed: {error!r}", file=sys.stderr)
                    await self._failed(batch, tenant, SixfoldError("the batch failed"))
        finally:
            self._thread.shutdown()
            if self._store is not None:
                self._store.close()

    async def _resume(self) -> None:
        """Queue what an earlier server has left."""
        if not (self._directory / "batches.db").exists():
            return
        try:
            live = await self.stored(lambda store: store.live())
        except OverloadedError as error:
            print(f"sixfold: {error.message}; batches are off", file=sys.stderr)
            return
        for batch, tenant in live:
            if batch.status == objects.CANCELLING:
                self._cancelled.add(batch.id)
            self._queue.put_nowait((batch, tenant))
        ours = {batch.id for batch, _ in live}
        for directory in (self._directory / "jobs").iterdir():
            if directory.name not in ours:
                shutil.rmtree(directory, ignore_errors=True)

    async def _run_batch(self, batch: BatchObject, tenant: str) -> None:
        directory = self._directory / "jobs" / batch.id
        await asyncio.to_thread(directory.mkdir, exist_ok=True)
        job = Job(
            input=self._directory / "files" / batch.input_file_id,
            output=directory / "output.jsonl", errors=directory / "errors.jsonl",
            defaults=Defaults(url=batch.endpoint), answered_by=self._model,
        )  # fmt: skip
        total = await asyncio.to_thread(count_lines, job.input)
        self._counts = RequestCounts(total=total)
        if batch.status == objects.QUEUED:
            batch.status, batch.in_progress_at = objects.RUNNING, int(time.time())
            batch.request_counts = self._counts
            await self.stored(lambda store: store.put(batch, tenant))
        counts = await self._answered(batch, job, tenant)
        batch.request_counts = RequestCounts(
            total=total, completed=counts.done, failed=counts.errors
        )
        await self._finalize(batch, job, tenant)

    async def _answered(self, batch: BatchObject, job: Job, tenant: str) -> Counts:
        """All lines that will be; the job's files are in place then."""
        if batch.id not in self._cancelled:
            left = batch.expires_at - time.time()
            work = asyncio.create_task(self._work(job, tenant))
            self._running = (batch.id, work)
            try:
                async with asyncio.timeout(max(0.0, left)):
                    return await work
            except TimeoutError:
                batch.status, batch.expired_at = objects.EXPIRED, int(time.time())
                return await self._worked(job, _Refuses())
            except asyncio.CancelledError:
                if batch.id not in self._cancelled:
                    raise  # the server ends: the batch goes on with the next one
            finally:
                self._running = None
        batch.status, batch.cancelled_at = objects.CANCELLED, int(time.time())
        return await self._worked(job, None)

    async def _work(self, job: Job, tenant: str) -> Counts:
        return await self._worked(job, await self._target(tenant))

    async def _worked(self, job: Job, target: Target | None) -> Counts:
        """Run the job to its end; without a target, end it as it is."""
        ledger = await asyncio.to_thread(open_job, job)
        try:
            counts = ledger.counts
            self._pace = Pace(counts.done + counts.errors, time.monotonic())
            if ledger.state != FINISHED:
                if target is not None:
                    options = Options(patience=PATIENCE)
                    await answer_lines(job, ledger, target, options, self._committed)
                await asyncio.to_thread(finish, job, ledger)
            return ledger.counts
        finally:
            ledger.close()

    def _committed(self, counts: Counts, offset: int) -> None:
        self._counts = RequestCounts(
            total=self._counts.total, completed=counts.done, failed=counts.errors
        )

    async def _finalize(self, batch: BatchObject, job: Job, tenant: str) -> None:
        """Results become files. Repeated after a kill, it does what is left to do."""
        batch.finalizing_at = int(time.time())
        if batch.status not in (objects.EXPIRED, objects.CANCELLED):
            batch.status, batch.completed_at = objects.COMPLETED, batch.finalizing_at

        def keep(store: BatchStore) -> None:
            items: list[FileObject | BatchObject] = [batch]
            for path, name in ((job.output, "output"), (job.errors, "errors")):
                file_id = f"file-{batch.id.removeprefix('batch_')}-{name}"
                if path.exists() and path.stat().st_size:
                    path.replace(store.content(file_id))
                if not store.content(file_id).exists():
                    continue
                size = synced(store.content(file_id))
                items.append(new_file(size, f"{batch.id}_{name}.jsonl", "batch_output", file_id))
                if name == "output":
                    batch.output_file_id = file_id
                else:
                    batch.error_file_id = file_id
            store.put_all(items, tenant)
            shutil.rmtree(job.output.parent, ignore_errors=True)

        await self.stored(keep)
        self._cancelled.discard(batch.id)

    async def _failed(self, batch: BatchObject, tenant: str, error: SixfoldError) -> None:
        batch.status, batch.failed_at = objects.FAILED, int(time.time())
        batch.errors = BatchErrors([BatchError(code="batch_failed", message=error.message)])
        with contextlib.suppress(SixfoldError):
            await self.stored(lambda store: store.put(batch, tenant))


def count_lines(path: Path) -> int:
    """Lines that hold anything. Raises SixfoldError."""
    reader = LineReader(path, Place())
    try:
        return sum(1 for line in reader.lines() if line.data is None or line.data.strip())
    finally:
        reader.close()
