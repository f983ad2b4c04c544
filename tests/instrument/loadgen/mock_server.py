"""A server in a thread that answers by script, and records when it sent what."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

CLOSE = None
"""Step of a script: end the connection."""
Step = float | bytes | None
"""A pause in seconds, a segment to write, or CLOSE."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"
LAST = b"0\r\n\r\n"


def event(**fields: Any) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def token(text: str, **fields: Any) -> bytes:
    return event(choices=[{"index": 0, "text": text} | fields])


def finish(tokens: int, prompt: int = 7, cached: int | None = None) -> bytes:
    """Finish reason, usage, [DONE]."""
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached is not None else {}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens} | details
    return (
        token("", finish_reason="length")
        + event(choices=[], usage=usage)
        + DONE
    )  # fmt: skip


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(*texts: str) -> list[Step]:
    """A whole answer at once."""
    return [HEAD + b"".join(chunk(token(t)) for t in texts) + chunk(finish(len(texts))) + LAST]


@dataclass
class Seen:
    """One request as the server saw it."""

    body: dict[str, Any]
    head: str
    connection: int
    arrived: float
    writes: list[float] = field(default_factory=list)
    ended: float = 0.0


class MockServer:
    """Answers each request by what `script` makes of its body and number."""

    def __init__(self, script: Callable[[dict[str, Any], int], Sequence[Step]]) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.port = 0
        self._connections = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "MockServer":
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)
        self._loop.close()

    async def _main(self) -> None:
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = self._connections
        self._connections += 1
        try:
            while await self._serve(reader, writer, number):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET "):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return False
        length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
        body = msgspec.json.decode(await reader.readexactly(length))
        seen = Seen(body, head, connection, time.monotonic())
        self.seen.append(seen)
        for step in self.script(body, len(self.seen) - 1):
            if step is CLOSE:
                return False
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                seen.writes.append(time.monotonic())
                writer.write(step)
                await writer.drain()
        seen.ended = time.monotonic()
        return True
