"""Runs a load: sends sessions at their times, or so many at once, and keeps every outcome.

Always bounded in requests and seconds. Not here: the sessions (workloads), the times
(arrivals.py), one request (client.py), sums (report.py).
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.metrics import ttft
from sixfold.instrument.loadgen.arrivals import Arrivals, arrival_times
from sixfold.instrument.loadgen.client import Client, Reply, Target
from sixfold.instrument.loadgen.conversation import Conversation, check_session
from sixfold.instrument.loadgen.plan import Outcome, Session
from sixfold.instrument.loadgen.saturation import Saturation
from sixfold.instrument.loadgen.selfcheck import ClientHealth, SelfCheck

TICK = 0.25
"""Seconds between two calls of a progress callback."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run ends at the latest. Raises ConfigError for values that bound nothing."""

    requests: int = 100_000
    """That are sent."""
    seconds: float = 600.0
    """After which nothing more is sent."""
    drain: float = 60.0
    """Further seconds for the requests on their way; those that take longer are given up."""
    stop_saturated: bool = False
    """Send nothing more once an open loop's queue and TTFT grow without end (saturation.py)."""

    def __post_init__(self) -> None:
        if not (self.requests > 0 and 0 < self.seconds < 1e7 and 0 <= self.drain < 1e7):
            raise ConfigError("a run's limits must be above 0", "give requests, seconds and drain")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment."""

    seconds: float
    sent: int
    finished: int
    failed: int
    """Of the finished."""
    planned: int
    """Requests of all sessions."""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run. Times are on the clock of the traces (time.monotonic)."""

    outcomes: tuple[Outcome, ...]
    """In the order in which they ended."""
    health: ClientHealth
    start: float
    seconds: float
    unfinished: int
    """Requests that were on their way at the end, and given up."""
    unsent: int
    """Requests that were never sent."""
    unfinished_by_class: dict[str, int] = {}
    """The same by the class of their sessions; "" is those of none."""
    unsent_by_class: dict[str, int] = {}
    stopped: str = ""
    """What ended the run before all was sent: requests, seconds, saturated, interrupted; or
    nothing did."""


def run_load(
    target: Target,
    sessions: Sequence[Session],
    load: Arrivals | int,
    *,
    limits: Limits | None = None,
    allow_remote: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> LoadResult:
    """Send `sessions`: in an open loop at their arrivals, or `load` at once (closed loop).

    Turns of a session follow each other; a failed turn ends its session. Interrupting the run
    (Ctrl-C) returns what there is. Blocks; runs its own event loop. Raises ConfigError for a
    target that is not on this machine, unless `allow_remote`, and for impossible sessions.
    """
    if not (target.loopback or allow_remote):
        raise ConfigError(
            f"{target.url} is not on this machine",
            "load may only go to others with their consent: allow_remote=True says you have it",
        )
    for index, session in enumerate(sessions):
        check_session(session, index, target.chat)
    plan = _plan(sessions, load)
    run = _Run(target, sessions, limits or Limits())
    return asyncio.run(run.drive(plan, progress or _ignore))


def _ignore(progress: Progress) -> None:
    pass


def _plan(sessions: Sequence[Session], load: Arrivals | int) -> list[tuple[float, int]] | int:
    """Each session's time and index, in order; or the concurrency."""
    if isinstance(load, int):
        if load < 1:
            raise ConfigError(f"a concurrency of {load} sends nothing", "make it 1 or more")
        return load
    if load.kind != "trace" or load.trace:
        return [(t, i) for i, t in enumerate(arrival_times(load, len(sessions)))]
    order = sorted((s.at, i) for i, s in enumerate(sessions) if s.at is not None)
    if len(order) < len(sessions):
        raise ConfigError("not every session says when it arrives", "give each an `at`, in seconds")
    trace = msgspec.structs.replace(load, trace=tuple(at for at, _ in order))
    return list(zip(arrival_times(trace, len(order)), (i for _, i in order), strict=True))


class _Run:
    """One run's state."""

    def __init__(self, target: Target, sessions: Sequence[Session], limits: Limits) -> None:
        self._client = Client(target)
        self._chat = target.chat
        self._sessions = sessions
        self._limits = limits
        self._planned: Counter[str] = Counter()
        for session in sessions:
            self._planned[session.slo_class] += len(session.turns)
        self._check = SelfCheck()
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcomes: list[Outcome] = []
        self._idle = asyncio.Event()
        self._start = 0.0
        self._last = 0.0
        """When the last request may be sent."""
        self._sent: Counter[str] = Counter()
        """Requests by class, as the planned ones are."""
        self._failed = 0
        self._stopped = ""
        self._saturation: Saturation | None = None

    async def drive(
        self, plan: list[tuple[float, int]] | int, progress: Callable[[Progress], None]
    ) -> LoadResult:
        """The whole run."""
        self._start = time.monotonic()
        self._last = self._start + self._limits.seconds
        self._check.start()
        if self._limits.stop_saturated and not isinstance(plan, int):
            self._saturation = Saturation()
        self._spawn(self._closed_loop(plan) if isinstance(plan, int) else self._open_loop(plan))
        try:
            await self._watch(progress)
        except asyncio.CancelledError:
            self._stopped = "interrupted"
        result = self._result()
        await self._give_up()
        return result

    async def _watch(self, progress: Callable[[Progress], None]) -> None:
        """Until no task is left, or the time for them is over."""
        told = self._start
        while self._tasks and (left := self._last + self._limits.drain - time.monotonic()) > 0:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, TICK)):
                    await self._idle.wait()
            if time.monotonic() - told >= TICK:
                told = time.monotonic()
                progress(self._progress())
                self._stop_if_saturated(told)
        progress(self._progress())

    def _stop_if_saturated(self, now: float) -> None:
        if self._saturation is None or self._stopped:
            return
        self._saturation.in_flight(now, self._sent.total() - len(self._outcomes))
        if self._saturation.saturated(now):
            self._stopped = "saturated"
            self._last = now

    def _result(self) -> LoadResult:
        late = [outcome.trace.arrival - outcome.planned for outcome in self._outcomes]
        unfinished = self._sent - Counter(outcome.slo_class for outcome in self._outcomes)
        unsent = self._planned - self._sent
        return LoadResult(
            outcomes=tuple(self._outcomes),
            health=self._check.finish(late),
            start=self._start,
            seconds=time.monotonic() - self._start,
            unfinished=unfinished.total(),
            unsent=unsent.total(),
            unfinished_by_class=dict(unfinished),
            unsent_by_class=dict(unsent),
            stopped=self._stopped,
        )

    def _progress(self) -> Progress:
        return Progress(
            seconds=time.monotonic() - self._start,
            sent=self._sent.total(),
            finished=len(self._outcomes),
            failed=self._failed,
            planned=self._planned.total(),
        )

    async def _give_up(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._client.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._idle.set()

    async def _open_loop(self, plan: Sequence[tuple[float, int]]) -> None:
        """Start each session at its time, whatever became of the others."""
        for at, index in plan:
            planned = self._start + at
            if not await self._may_send_at(planned):
                return
            self._spawn(self._one_session(index, planned))

    async def _closed_loop(self, concurrency: int) -> None:
        """So many workers, each of which starts a session at the end of its last one."""
        queue = iter(range(len(self._sessions)))
        for _ in range(min(concurrency, len(self._sessions))):
            self._spawn(self._worker(queue))

    async def _worker(self, queue: Iterator[int]) -> None:
        planned = time.monotonic()
        for index in queue:
            if not self._below_limits():
                return
            planned = await self._session(index, planned)

    async def _may_send_at(self, planned: float) -> bool:
        """Wait for a time; False if the run's limits come before it."""
        if planned > self._last:
            self._stopped = self._stopped or "seconds"
            return False
        if (wait := planned - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        return self._below_limits()

    def _below_limits(self) -> bool:
        if self._sent.total() >= self._limits.requests:
            self._stopped = self._stopped or "requests"
        elif time.monotonic() > self._last:
            self._stopped = self._stopped or "seconds"
        else:
            return True
        return False

    async def _one_session(self, index: int, planned: float) -> None:
        await self._session(index, planned)

    async def _session(self, index: int, planned: float) -> float:
        """A session's turns, each after the answer to the one before and its think time.

        Returns when it ended.
        """
        session = self._sessions[index]
        conversation = Conversation(session, self._chat)
        ended = planned
        for number, turn in enumerate(session.turns):
            planned = ended + (turn.think_time if number else 0.0)
            if not await self._may_send_at(planned):
                break
            self._sent[session.slo_class] += 1
            reply = await self._client.send(conversation.ask(turn))
            self._keep(reply, planned, index, number)
            ended = reply.trace.end
            if reply.error:
                break
            conversation.answered(turn, reply.answer)
        return ended

    def _keep(self, reply: Reply, planned: float, index: int, number: int) -> None:
        answer = reply.answer
        self._failed += bool(reply.error)
        waited = ttft(reply.trace)
        if self._saturation is not None and waited is not None:
            self._saturation.first_token(reply.trace.token_times[0], waited)
        self._outcomes.append(
            Outcome(
                trace=reply.trace,
                session=index,
                turn=number,
                slo_class=self._sessions[index].slo_class,
                planned=planned,
                num_output_tokens=answer.num_output_tokens,
                num_cached_tokens=answer.num_cached_tokens,
                text=answer.text,
                finish_reason=answer.finish_reason,
                error=reply.error,
            )
        )
