"""The API process's side of the engine: requests in, streams of deltas out.

One client lives as long as the server; connections come and go with engine processes. Not here:
starting and restarting processes (supervisor.py), HTTP.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable

from sixfold.core.errors import (
    DeadlineError,
    EngineDeadError,
    OverloadedError,
    RequestError,
    SixfoldError,
)
from sixfold.core.metrics import EngineStats
from sixfold.core.request import EngineRequest, RequestDelta
from sixfold.serving.server import ipc

_DEAD_HINT = "the engine restarts on its own: send the request again in a few seconds"


class EngineFaultError(SixfoldError):
    """The engine failed on this request though it lives on (HTTP 500): a bug of ours."""


_Item = RequestDelta | SixfoldError


class EngineClient:
    """Sends commands over the current connection and hands each delta to its request."""

    def __init__(self) -> None:
        self.limits: ipc.Ready | None = None
        """What the engine said of itself; None while there is none to talk to."""
        self.stats = EngineStats()
        """The newest statistics; they start from zero with each engine process."""
        self.last_heard = time.monotonic()
        """When the last frame came (monotonic seconds): the watchdog's evidence."""
        self.on_step: Callable[[EngineStats], None] | None = None
        """Called with the statistics after each step."""
        self.num_restarts = 0
        """Engine processes that were started after the first (the supervisor counts)."""
        self._writer: asyncio.StreamWriter | None = None
        self._streams: dict[str, asyncio.Queue[_Item]] = {}
        self._calls: dict[int, asyncio.Future[ipc.Reply]] = {}
        self._call_ids = itertools.count(1)

    @property
    def ready(self) -> bool:
        """True while an engine is connected and has loaded its model."""
        return self.limits is not None

    def attach(self, writer: asyncio.StreamWriter, ready: ipc.Ready) -> None:
        """Use this connection from now on."""
        self._writer = writer
        self.limits = ready
        self.stats = EngineStats()
        self.last_heard = time.monotonic()

    def detach(self) -> None:
        """The connection is gone: end every stream and call with EngineDeadError."""
        self._writer = None
        self.limits = None
        error = EngineDeadError("the engine died while the request was in flight", _DEAD_HINT)
        for queue in self._streams.values():
            queue.put_nowait(error)
        for call in self._calls.values():
            if not call.done():
                call.set_exception(error)

    def handle(self, event: ipc.Deltas | ipc.Rejected | ipc.Reply) -> None:
        """Hand an event of the engine to whom it concerns; late ones are for nobody."""
        self.last_heard = time.monotonic()
        match event:
            case ipc.Deltas(deltas, stats):
                self.stats = stats
                if self.on_step is not None:
                    self.on_step(stats)
                for delta in deltas:
                    queue = self._streams.get(delta.request_id)
                    if queue is not None:
                        queue.put_nowait(delta)
            case ipc.Rejected(request_id, message, hint, param, fault):
                queue = self._streams.get(request_id)
                if queue is not None:
                    queue.put_nowait(
                        EngineFaultError(message, hint)
                        if fault
                        else RequestError(message, hint, param)
                    )
            case ipc.Reply(call_id, _ok, stats, _bad_frames):
                self.stats = stats
                call = self._calls.get(call_id)
                if call is not None and not call.done():
                    call.set_result(event)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[RequestDelta, None]:
        """Deltas of one request, the last with its finish_reason. Closing it early aborts.

        Raises RequestError, EngineDeadError, DeadlineError, EngineFaultError.
        """
        queue: asyncio.Queue[_Item] = asyncio.Queue()
        name = request.request_id
        assert name not in self._streams, "request ids are made by the server"
        finished = False
        frame = ipc.encode_frame(ipc.Add(request))
        self._write(frame)
        self._streams[name] = queue
        try:
            while not finished:
                item = await queue.get()
                if isinstance(item, SixfoldError):
                    finished = True
                    raise item
                finished = item.finish_reason is not None
                _raise_for(item)
                yield item
        finally:
            del self._streams[name]
            if not finished and self._writer is not None:
                self._write(ipc.encode_frame(ipc.Abort(name)))

    async def reset_prefix_cache(self) -> bool:
        """Drop the engine's cached prefixes. False where it could not."""
        call_id = next(self._call_ids)
        return (await self._call(call_id, ipc.ResetCache(call_id))).ok

    async def refresh_stats(self, timeout: float) -> EngineStats:
        """The engine's statistics now, or the newest known ones after `timeout` seconds."""
        call_id = next(self._call_ids)
        try:
            async with asyncio.timeout(timeout):
                return (await self._call(call_id, ipc.GetStats(call_id))).stats
        except (TimeoutError, EngineDeadError):
            return self.stats

    async def ping(self) -> None:
        """Return once the engine has answered. Raises EngineDeadError."""
        call_id = next(self._call_ids)
        await self._call(call_id, ipc.Ping(call_id))

    async def _call(self, call_id: int, command: ipc.Command) -> ipc.Reply:
        call: asyncio.Future[ipc.Reply] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = call
        try:
            self._write(ipc.encode_frame(command))
            return await call
        finally:
            del self._calls[call_id]

    def _write(self, frame: bytes) -> None:
        if self._writer is None:
            raise EngineDeadError("the engine is starting", _DEAD_HINT)
        self._writer.write(frame)


def _raise_for(delta: RequestDelta) -> None:
    match delta.finish_reason:
        case "error":
            raise EngineFaultError(delta.error or "the engine failed on this request")
        case "deadline":
            raise DeadlineError(
                "the request's deadline passed before it finished",
                "raise timeout, or lower max_tokens",
            )
        case "abort":
            raise OverloadedError("the engine gave the request up", "send it again")
