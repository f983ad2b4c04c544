"""Runs a request's sequences on the engine and merges their deltas.

A request of many sequences (prompts x n) runs as many of them at once as the engine batches.
Leaving early, for whatever reason, aborts what still runs. Not here: HTTP, OpenAI's shapes.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from sixfold.core.errors import DeadlineError, SixfoldError
from sixfold.core.request import EngineRequest, RequestDelta, SamplingParams, split_seeds
from sixfold.serving.server.convert import tenant_salt
from sixfold.serving.server.metrics import RequestClock
from sixfold.serving.server.state import ServerState


def build_requests(
    prompts: list[list[int]], params: SamplingParams, n: int, common: EngineRequest
) -> list[EngineRequest]:
    """One EngineRequest per prompt and choice; `common` lends what they share."""
    each = split_seeds(msgspec.structs.replace(params, n=n))
    return [
        EngineRequest(
            request_id=f"{common.request_id}-{p * n + i}",
            prompt_token_ids=ids,
            params=each[i],
            arrival_time=common.arrival_time,
            priority=common.priority,
            cache_salt=common.cache_salt,
            deadline=common.deadline,
            backfill=common.backfill,
        )
        for p, ids in enumerate(prompts)
        for i in range(n)
    ]


def request_frame(
    arrival_time: float, priority: int, salt: tuple[str, str | None], timeout: float
) -> EngineRequest:
    """What all sequences of a request share; the id is the server's own and not guessable."""
    return EngineRequest(
        request_id=uuid.uuid4().hex,
        prompt_token_ids=[],
        params=SamplingParams(),
        arrival_time=arrival_time,
        priority=priority,
        cache_salt=tenant_salt(*salt),
        deadline=arrival_time + timeout if timeout > 0 else None,
    )


async def run_sequences(
    state: ServerState, requests: list[EngineRequest]
) -> AsyncGenerator[tuple[int, RequestDelta], None]:
    """(index, delta) of all sequences as they come. The first error of any ends all of them."""
    if len(requests) == 1:
        async with aclosing(_run_one(state, requests[0])) as deltas:
            async for delta in deltas:
                yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, RequestDelta | SixfoldError]] = asyncio.Queue()
    places = asyncio.Semaphore(state.limits().max_num_seqs)
    pumps = [
        asyncio.create_task(_pump(state, request, (index, queue, places)))
        for index, request in enumerate(requests)
    ]
    try:
        unfinished = len(requests)
        while unfinished:
            index, item = await queue.get()
            if isinstance(item, SixfoldError):
                raise item
            unfinished -= item.finish_reason is not None
            yield index, item
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    state: ServerState,
    request: EngineRequest,
    outlet: tuple[int, asyncio.Queue[tuple[int, RequestDelta | SixfoldError]], asyncio.Semaphore],
) -> None:
    index, queue, places = outlet
    async with places:
        try:
            async with aclosing(_run_one(state, request)) as deltas:
                async for delta in deltas:
                    queue.put_nowait((index, delta))
        except SixfoldError as error:
            queue.put_nowait((index, error))


async def _run_one(
    state: ServerState, request: EngineRequest
) -> AsyncGenerator[RequestDelta, None]:
    """One sequence, measured."""
    clock = RequestClock(state.metrics, request.arrival_time, len(request.prompt_token_ids))
    reason = "abort"
    try:
        async with aclosing(state.client.generate(request)) as deltas:
            async for delta in deltas:
                clock.take(delta)
                yield delta
    except DeadlineError:
        reason = "deadline"
        raise
    except SixfoldError:
        reason = "error"
        raise
    finally:
        clock.abort(reason)
