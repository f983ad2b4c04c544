"""Server-sent events, and answers that stop when the client goes. Not here: what they say."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.types import Message, Receive, Scope, Send

from sixfold.core.errors import SixfoldError
from sixfold.serving.server.http_errors import describe
from sixfold.serving.server.limits import ClientGoneError, wait_disconnect
from sixfold.serving.server.responses import DONE_EVENT, to_event

T = TypeVar("T")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes (ClientGoneError)."""
    worker = asyncio.create_task(work)
    watcher = asyncio.create_task(wait_disconnect(receive))
    try:
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            raise ClientGoneError
        return worker.result()
    finally:
        for task in (worker, watcher):
            task.cancel()
        await asyncio.gather(worker, watcher, return_exceptions=True)


class EventStream:
    """An ASGI answer of server-sent events, always ended by [DONE], also after an error.

    The status is sent with the first event: a request that fails before it gets a real error
    status (the error is raised). A client that goes, or is cut off, closes `events`.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], request_id: str) -> None:
        self._events = events
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come."""
        await until_gone(receive, self._run(send))

    async def _run(self, send: Send) -> None:
        started = False
        async with aclosing(self._events) as events:
            try:
                async for event in events:
                    if not started:
                        started = True
                        await send(self._start())
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            except SixfoldError as error:
                if not started:
                    raise
                body = to_event(describe(error)[1])
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": DONE_EVENT, "more_body": False})

    def _start(self) -> Message:
        headers = [*_HEADERS, (b"x-request-id", self._request_id.encode())]
        return {"type": "http.response.start", "status": 200, "headers": headers}
