"""A recording: the proxy, the thread that makes lines of what passed it, and when it ends.

Not here: passing bytes (proxy), what a line says (observe), the summary (report).
"""

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder.held import Exchange
from sixfold.instrument.recorder.observe import Observer
from sixfold.instrument.recorder.proxy import Proxy, ProxyConfig
from sixfold.instrument.recorder.trace_file import TraceWriter, new_header

MAX_PENDING = 256 << 20
"""Bytes that may wait for the thread; what comes on top is recorded without its contents."""
SWITCH_SECONDS = 0.0005
"""How long the thread may keep the interpreter from the event loop, as long as it runs Python."""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded, to which file, for how long."""

    proxy: ProxyConfig
    output: str
    append: bool = False
    """Go on with a trace that is there."""
    keep_text: bool = False
    max_seconds: float = 0.0
    """0: until it is stopped."""
    max_requests: int = 0
    """0: any number."""


async def record(recording: Recording, ready: Callable[[str], None], stop: asyncio.Event) -> int:
    """Record until `stop` is set or a limit is reached. The number of entries.

    `ready` is told the proxy's address once it listens. Raises ConfigError: the file or the address
    can't be had, or the file can't be written any more. Requests in flight are noted in any case.
    """
    path, is_new = Path(recording.output), not Path(recording.output).exists()
    header = new_header(datetime.now(UTC), keep_text=recording.keep_text)
    began = time.monotonic()
    writer = TraceWriter(path, header, recording.append)
    lines = _Lines(writer, Observer(writer.salt, began, recording.keep_text), recording, stop)
    proxy = Proxy(recording.proxy, lines.take)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        await proxy.open()
        ready(proxy.url)
        await _wait(stop, recording.max_seconds)
    except ConfigError:
        if is_new:
            path.unlink()
        raise
    finally:
        try:
            await proxy.close()
            await lines.close()
        finally:
            sys.setswitchinterval(interval)
            lines.end()
            writer.close()
    return writer.count


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds or None):
            await stop.wait()
    except TimeoutError:
        pass


class _Lines:
    """Makes lines of exchanges, in the order in which they ended, on a thread of its own."""

    def __init__(
        self, writer: TraceWriter, observer: Observer, recording: Recording, stop: asyncio.Event
    ) -> None:
        self._writer = writer
        self._observer = observer
        self._most = recording.max_requests
        self._stop = stop
        self._pool = ThreadPoolExecutor(1, "record")
        self._pending: dict[asyncio.Future[None], int] = {}
        self._waiting = 0
        """Bytes that the thread has not looked at."""
        self._taken = 0
        self._error: BaseException | None = None

    def take(self, exchange: Exchange) -> None:
        """An exchange that is over. On the event loop; returns at once."""
        if self._most and self._taken >= self._most:
            return
        self._taken += 1
        if self._waiting + exchange.size > MAX_PENDING:
            exchange.forget()
        self._waiting += exchange.size
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._write, exchange)
        self._pending[future] = exchange.size
        future.add_done_callback(self._done)
        if self._taken == self._most:
            self._stop.set()

    async def close(self) -> None:
        """Wait for what is under way. Raises what went wrong, if anything did."""
        if self._pending:
            await asyncio.wait(list(self._pending))
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """No line is written any more."""
        self._pool.shutdown(cancel_futures=True)

    def _write(self, exchange: Exchange) -> None:
        self._writer.write(self._observer.entry(exchange))

    def _done(self, future: asyncio.Future[None]) -> None:
        self._waiting -= self._pending.pop(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._error = self._error or error
            self._stop.set()
