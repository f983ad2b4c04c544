"""Runs a job: windows of lines in, answers out, each committed before it counts.

Work is bounded everywhere: lines read ahead, tasks given out, rows not committed yet. A job that is
stopped, by whatever, has lost nothing but what was in flight. Not here: files and marks
(ledger.py), what answers (target.py), command line and HTTP.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.job import Job
from sixfold.serving.batch.ledger import Counts, Ledger, Row
from sixfold.serving.batch.lines import Task
from sixfold.serving.batch.order import order
from sixfold.serving.batch.reader import LineReader
from sixfold.serving.batch.rows import bad_row, copied, gave_up, row_of
from sixfold.serving.batch.target import Answer, Target, Unavailable
from sixfold.serving.batch.windows import Frontier, Window, Windows

COMMIT_SECONDS = 0.05
"""Between two commits: results come in groups, which costs the disk less."""

MAX_PENDING_BYTES = 32 << 20
"""Of rows that wait for their commit; more keep new tasks from starting."""

TRIES = 3
"""Times that a task may be in flight when what answers it fails."""

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds before another try, doubling."""

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is run."""

    patience: float = 300.0
    """Seconds without any answer, while nobody is there to ask, after which the job stops."""
    prefix_order: bool = True
    """Within a window, run what begins alike together (order.py); else as the lines come."""


async def answer_lines(
    job: Job, ledger: Ledger, target: Target, options: Options,
    on_commit: Callable[[Counts, int], None] = lambda counts, offset: None,
) -> Counts:  # fmt: skip
    """All lines of an opened job that are not done: see Runner.run."""
    reader = LineReader(job.input, ledger.frontier)
    try:
        windows = Windows(reader, ledger, job.defaults)
        return await Runner(ledger, windows, target, options, on_commit).run()
    finally:
        reader.close()


class Recent:
    """Answers that a window which was read already may not have found in the ledger."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.reads = 0
        """Windows whose reading has begun."""
        self._committed: deque[tuple[int, bytes]] = deque()

    def committed(self, digests: list[bytes]) -> None:
        """Windows that are read from now on will find these."""
        self._committed.extend((self.reads, digest) for digest in digests)

    def forget(self) -> None:
        """The latest window is here: what was committed before it was read is not needed more."""
        while self._committed and self._committed[0][0] < self.reads:
            self.rows.pop(self._committed.popleft()[1], None)


class Runner:
    """One job's. `on_commit` is told the counts after each commit."""

    def __init__(
        self, ledger: Ledger, windows: Windows, target: Target, options: Options,
        on_commit: Callable[[Counts, int], None] = lambda counts, offset: None,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._windows = windows
        self._target = target
        self._options = options
        self._on_commit = on_commit
        # The ledger's own thread: one at a time, and never the event loop's.
        self._thread = ThreadPoolExecutor(1, "batch-ledger")
        self._frontier = Frontier(ledger.frontier)
        self._places = asyncio.Semaphore(target.places)
        self._works: set[asyncio.Task[None]] = set()
        self._followers: dict[bytes, list[tuple[Task, Window]]] = {}
        self._recent = Recent()
        self._rows: list[tuple[Row, Window]] = []
        self._pending_bytes = 0
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._failure: SixfoldError | None = None
        self._broken = False
        """The ledger can't be written to any more."""
        self._ended = False
        self._tickets = 0
        self._quarantine = asyncio.Lock()
        self._heard = time.monotonic()
        self._began = time.monotonic()

    async def run(self) -> Counts:
        """To the input's end. Raises SixfoldError where the job had to stop.

        Cancelled, it commits what has been answered, and nothing more.
        """
        committer = asyncio.create_task(self._commit_rows())
        try:
            try:
                await self._give_out()
            except (OSError, sqlite3.Error) as error:
                self._break(error)
            while self._works and self._failure is None:
                await asyncio.wait(self._works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop()
            self._ended = True
            self._arrived.set()
            await asyncio.shield(committer)
            self._thread.shutdown()
        if self._failure is not None:
            raise self._failure
        return self._ledger.counts

    async def _give_out(self) -> None:
        ahead = asyncio.ensure_future(self._in_thread(self._windows.next))
        try:
            while (window := await ahead) is not None:
                self._recent.forget()
                # The next window is read while this one is worked on.
                self._recent.reads += 1
                ahead = asyncio.ensure_future(self._in_thread(self._windows.next))
                self._frontier.add(window)
                for bad in window.todo.bad:
                    self._put(bad_row(bad), window)
                for task, row in window.todo.answered:
                    self._put(copied(task, row), window)
                tasks = self._leaders(window)
                for i in order(tasks) if self._options.prefix_order else range(len(tasks)):
                    await self._start(tasks[i], window)
                    if self._failure is not None:
                        return
        finally:
            # The thread works on; nobody may use the ledger before it is through.
            with contextlib.suppress(Exception):
                await asyncio.shield(ahead)

    def _leaders(self, window: Window) -> list[Task]:
        """Of tasks that ask the same, the first; the others wait for its answer."""
        leaders = []
        for task in window.todo.tasks:
            if task.digest and task.digest in self._followers:
                self._followers[task.digest].append((task, window))
                continue
            if (row := self._recent.rows.get(task.digest)) is not None:
                self._put(copied(task, row), window)
                continue
            if task.digest:
                self._followers[task.digest] = []
            leaders.append(task)
        return leaders

    async def _start(self, task: Task, window: Window) -> None:
        while self._pending_bytes > MAX_PENDING_BYTES and self._failure is None:
            self._settled.clear()
            await self._settled.wait()
        await self._places.acquire()
        self._tickets += 1
        work = asyncio.create_task(self._work(task, window, self._tickets))
        self._works.add(work)
        work.add_done_callback(self._worked)

    def _worked(self, work: asyncio.Task[None]) -> None:
        self._works.discard(work)
        self._places.release()
        if not work.cancelled() and (error := work.exception()) is not None:
            # A bug of ours, or nobody answers any more.
            stopped = error if isinstance(error, SixfoldError) else None
            self._fail(stopped or SixfoldError(f"the job failed: {error!r}", "report this"))

    async def _work(self, task: Task, window: Window, ticket: int) -> None:
        result = await self._tried(task, ticket)
        row = result if isinstance(result, Row) else row_of(task, result)
        if row.digest:
            self._recent.rows[row.digest] = row.data
        self._put(row, window)
        for follower, its_window in self._followers.pop(task.digest, []):
            if isinstance(result, Answer) and result.status == 200:
                self._put(copied(follower, row.data), its_window)
            else:
                await self._work(follower, its_window, ticket)

    async def _tried(self, task: Task, ticket: int) -> Answer | Row:
        """An answer; or the error line of a task during which what answers failed too often."""
        failures, wait = 0, FIRST_WAIT
        while True:
            # Who was there when it failed may be the reason: such tasks go one at a time.
            alone = self._quarantine if failures else contextlib.nullcontext()
            try:
                async with alone:
                    answer = await self._target.answer(task, ticket)
                self._heard = time.monotonic()
                return answer
            except Unavailable as error:
                failures += not error.busy
                if failures >= TRIES:
                    return gave_up(task, "unavailable", error.message)
                if time.monotonic() - self._heard > self._options.patience:
                    raise SixfoldError(
                        f"nobody has answered for {self._options.patience:g} s: {error.message}",
                        "the same command goes on where this one stopped",
                    ) from None
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    # ---- commits

    def _put(self, row: Row, window: Window) -> None:
        self._rows.append((row, window))
        self._pending_bytes += len(row.data)
        self._arrived.set()

    async def _commit_rows(self) -> None:
        while not self._broken:
            await self._arrived.wait()
            self._arrived.clear()
            while self._rows and not self._broken:
                await self._commit()
            if self._ended:
                return
            await asyncio.sleep(COMMIT_SECONDS)

    async def _commit(self) -> None:
        some, self._rows = self._rows, []
        done: dict[int, int] = {}
        for _, window in some:
            done[id(window)] = done.get(id(window), 0) + 1
        now = time.monotonic()
        seconds, self._began = now - self._began, now
        rows, frontier = [row for row, _ in some], self._frontier.after(done)
        try:
            await self._in_thread(lambda: self._ledger.commit(rows, frontier, seconds))
        except (OSError, sqlite3.Error) as error:
            self._break(error)
            return
        self._frontier.committed(done)
        self._recent.committed([row.digest for row in rows if row.digest and not row.copied])
        self._pending_bytes -= sum(len(row.data) for row in rows)
        self._settled.set()
        self._on_commit(self._ledger.counts, frontier.offset)

    def _break(self, error: Exception) -> None:
        """The ledger is not to be used any more: opened anew, it will be whole."""
        self._broken = True
        self._fail(
            SixfoldError(
                f"results can't be written: {error}",
                "see to the disk; the same command goes on where this one stopped",
            )
        )

    def _fail(self, error: SixfoldError) -> None:
        self._failure = self._failure or error
        self._arrived.set()
        self._settled.set()
        for work in self._works:
            work.cancel()

    async def _stop(self) -> None:
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
