"""A small load client for OpenAI-compatible servers: asyncio sockets, streams, timestamps.

Loopback only, bounded in requests and time. Not here: arrivals, traces and statistics beyond
core/metrics; the instrument's load generator takes over from this file.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sixfold.core.metrics import RequestTrace

TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server on this machine."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outcome: its trace, its text, and what the server counted."""

    trace: RequestTrace
    text: str
    usage: dict[str, Any]


async def send(target: Target, path: str, body: dict[str, Any]) -> Answer:
    """Send one streaming request and read it to its end."""
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    start = time.monotonic()
    times: list[float] = []
    text, usage = "", {}
    async for event in _events(target, path, body):
        now = time.monotonic()
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            piece = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if piece:
                times.append(now)
                text += piece
    count = int(usage.get("completion_tokens", len(times)))
    trace = RequestTrace(
        arrival=start,
        token_times=_one_per_token(times, count),
        end=time.monotonic(),
        num_prompt_tokens=int(usage.get("prompt_tokens", 0)),
    )
    return Answer(trace, text, usage)


def _one_per_token(times: Sequence[float], count: int) -> tuple[float, ...]:
    """A chunk may hold several tokens, or a token no whole character: spread the rest evenly."""
    if not times or count <= 0:
        return ()
    if count <= len(times):
        return tuple(times[:count])
    last = times[-1]
    return tuple(times) + (last,) * (count - len(times))


async def run(
    target: Target, path: str, bodies: Sequence[dict[str, Any]], concurrency: int
) -> list[Answer]:
    """Send all bodies, at most `concurrency` at once (closed loop); answers in their order."""
    answers: list[Answer | None] = [None] * len(bodies)
    queue = iter(range(len(bodies)))

    async def worker() -> None:
        for i in queue:
            answers[i] = await asyncio.wait_for(send(target, path, bodies[i]), TIMEOUT)

    await asyncio.gather(*[worker() for _ in range(concurrency)])
    return [a for a in answers if a is not None]


async def _events(target: Target, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        payload = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
            "Connection: close\r\n\r\n"
        )
        writer.write(head.encode() + payload)
        await writer.drain()
        status, chunked = await _head(reader)
        if status != 200:
            detail = (await reader.read(500)).decode("utf-8", "replace")
            raise RuntimeError(f"the server answered {status}: {detail}")
        async for line in _lines(reader, chunked):
            if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                yield json.loads(line[6:])
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    return int(head.split(" ", 2)[1]), "transfer-encoding: chunked" in head


async def _lines(reader: asyncio.StreamReader, chunked: bool) -> AsyncIterator[bytes]:
    rest = b""
    while True:
        if chunked:
            size = int((await reader.readline()).split(b";")[0] or b"0", 16)
            data = (await reader.readexactly(size + 2))[:-2]
        else:
            data = await reader.read(65536)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line
