"""Whether the client was the limit of a run: its loop's lag, its lateness, its share of a core.

Measured with every run, since a load that the client could not make says nothing about a server.
Not here: the load itself (run.py).
"""

import asyncio
import time
from collections.abc import Iterator, Sequence

import msgspec

from sixfold.core.metrics import percentile

PERIOD = 0.01
MAX_CPU = 0.9
MAX_LATE = 0.005


class ClientHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How the client did. Times in seconds."""

    lag_p50: float
    """By how much the event loop woke late, sampled every 10 ms."""
    lag_p99: float
    late_p99: float
    """Sent minus planned."""
    late_max: float
    cpu_share: float
    """CPU time of this process over wall time; 1 is a whole core, all that one loop can use."""
    client_bound: bool
    """The client was a limit: latencies are too high, and rates too low, by its own fault."""
    reason: str = ""


class SelfCheck:
    """Samples the running event loop from `start` to `finish`."""

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._wall = 0.0
        self._cpu = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, within a running event loop."""
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._task = asyncio.get_running_loop().create_task(self._sample())

    def finish(self, late: Sequence[float]) -> ClientHealth:
        """End, and judge. `late`: by how many seconds each request was sent after its time."""
        assert self._task is not None
        self._task.cancel()
        wall = time.monotonic() - self._wall
        return judge(self._lags, late, (time.process_time() - self._cpu) / max(wall, 1e-9))

    async def _sample(self) -> None:
        while True:
            due = time.monotonic() + PERIOD
            await asyncio.sleep(PERIOD)
            self._lags.append(max(time.monotonic() - due, 0.0))


def judge(lags: Sequence[float], late: Sequence[float], cpu_share: float) -> ClientHealth:
    """Health from samples in seconds; none count as 0."""
    lags, late = lags or [0.0], late or [0.0]
    lag_p99, late_p99 = percentile(lags, 99), percentile(late, 99)
    reasons = list(_reasons(lag_p99, late_p99, cpu_share))
    return ClientHealth(
        lag_p50=percentile(lags, 50),
        lag_p99=lag_p99,
        late_p99=late_p99,
        late_max=max(late),
        cpu_share=cpu_share,
        client_bound=bool(reasons),
        reason="; ".join(reasons),
    )


def _reasons(lag_p99: float, late_p99: float, cpu_share: float) -> Iterator[str]:
    if cpu_share > MAX_CPU:
        yield f"the client used {cpu_share:.0%} of a core"
    if lag_p99 > MAX_LATE:
        yield f"its event loop woke {lag_p99 * 1e3:.1f} ms late (p99)"
    if late_p99 > MAX_LATE:
        yield f"it sent requests {late_p99 * 1e3:.1f} ms after their time (p99)"
