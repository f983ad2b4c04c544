"""Times the engine's steps: what each took, booked to its requests and to the trace.

Not here: running steps (engine.py), how time is shared out (attribution.py).
"""

import time
from collections.abc import Callable, Iterable

from sixfold.core.request import EngineRequest, Timings
from sixfold.engine.attribution import Attribution, StepTime
from sixfold.engine.scheduler.output import SchedulerOutput
from sixfold.engine.trace import TraceFile

Spent = tuple[float, float, float, float, float]
"""Seconds so far: forward, sampling, drafting, of forward in vain, and loading."""


class StepClock:
    """Of one engine; times are on the clock of requests (monotonic)."""

    def __init__(self, spent: Callable[[], Spent], trace_file: str) -> None:
        """`spent` reads the parts' own clocks."""
        self._spent = spent
        self._attribution = Attribution()
        self._trace = TraceFile(trace_file) if trace_file else None
        self._ended = time.monotonic()
        self._booked = spent()

    def add(self, request: EngineRequest) -> None:
        """A request has come."""
        now = time.monotonic()
        self._attribution.add(request.request_id, request.arrival_time or now, now,
                              request.backfill)  # fmt: skip

    def forget(self, request_id: str) -> None:
        """A request is over, and nobody asks."""
        self._attribution.forget(request_id)

    def book(
        self, output: SchedulerOutput, sampled: Iterable[str], began: float, text_began: float
    ) -> float:
        """A step was run; seconds that it took."""
        spent, ended = self._spent(), time.monotonic()
        forward, sampling, drafting, wasted, loading = (
            after - before for after, before in zip(spent, self._booked, strict=True)
        )
        step = StepTime(
            before=self._ended, began=began, ended=ended, forward=forward, sampling=sampling,
            drafting=drafting, wasted=wasted, loading=loading, detokenise=ended - text_began,
            backfill=max(0.0, forward - wasted) * output.backfill_share,
        )  # fmt: skip
        self._attribution.step(output, sampled, step)
        if self._trace is not None:
            self._trace.step(output, step)
        self._booked, self._ended = spent, ended
        return ended - began

    def end(self, request: EngineRequest, timings: Timings) -> Timings:
        """A request is over: `timings` with all its parts."""
        name, now = request.request_id, time.monotonic()
        self._attribution.end(name, now, timings)
        if self._trace is not None:
            self._trace.request(name, request.arrival_time or now, now, timings)
        return timings

    def close(self) -> None:
        """End the trace."""
        if self._trace is not None:
            self._trace.close()
