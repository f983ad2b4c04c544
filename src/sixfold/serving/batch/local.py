"""Lines answered by the engine of this process's server state, as its routes would answer them.

As many are in the engine as its KV cache holds to their ends. Not here: HTTP, the engine's own
scheduling.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from sixfold.core.errors import EngineDeadError, OverloadedError, SixfoldError
from sixfold.core.request import EngineRequest
from sixfold.serving.batch.admission import KVRoom, Lengths
from sixfold.serving.batch.lines import URLS, Task
from sixfold.serving.batch.target import Answer, Target, Unavailable, answered
from sixfold.serving.server.convert import (
    plan_chat,
    plan_completion,
    split_prompts,
    tenant_salt,
)
from sixfold.serving.server.generation import request_frame
from sixfold.serving.server.http_errors import describe
from sixfold.serving.server.protocol import (
    ChatFields,
    CommonFields,
    CompletionFields,
    EmbeddingFields,
    PoolingFields,
    decode_generation,
    decode_parts,
)
from sixfold.serving.server.render import ChatWriter, CompletionWriter
from sixfold.serving.server.responses import to_json
from sixfold.serving.server.routes_pooling import embedded
from sixfold.serving.server.state import SLOW_TEXT, ServerState
from sixfold.serving.server.whole import generated, pooled, prepare, prepare_vectors

WAITING = 2
"""Tasks that are given out for each slot of the engine: the next one is tokenised and at hand when
a slot gets free."""


ENGINE_LOOK = 0.2
"""Seconds between two looks whether the engine is there."""


class LocalTarget:
    """See target.Target. `tenant` parts prefixes from others'; with `backfill` others go first."""

    def __init__(self, state: ServerState, tenant: str = "", backfill: bool = False) -> None:
        limits = state.limits()
        self.places = WAITING * limits.max_num_seqs
        self._state = state
        self._tenant = tenant
        self._backfill = backfill
        self._slots = limits.max_num_seqs
        self._admission = KVRoom(limits.num_kv_tokens)
        self._lengths = Lengths()
        self._queue: list[tuple[int, asyncio.Event]] = []

    async def answer(self, task: Task, ticket: int) -> Answer:
        """See Target."""
        if not self._state.client.ready:
            raise Unavailable("the engine is starting", busy=True)
        frame = request_frame(time.monotonic(), 0, (self._tenant, None), 0.0)
        frame = msgspec.structs.replace(frame, backfill=True) if self._backfill else frame
        try:
            run = self._embed if task.url == URLS[2] else self._generate
            body = await run(task, ticket, frame)
        except (EngineDeadError, OverloadedError) as error:
            raise Unavailable(error.message, error.hint) from None
        except SixfoldError as error:
            status, said = describe(error)
            return Answer(status=status, body=to_json(said), request_id=frame.request_id)
        return answered(200, to_json(body), frame.request_id)

    async def _generate(self, task: Task, ticket: int, frame: EngineRequest) -> object:
        state, payload = self._state, task.payload()
        common: CommonFields
        if task.url == URLS[0]:
            common, chat = decode_generation(payload, ChatFields)
            plan = await state.off_loop(SLOW_TEXT, lambda: plan_chat(common, chat, state.tokenizer))
        else:
            common, own = decode_generation(payload, CompletionFields)
            plan = plan_completion(common, own)
        state.check_model(common.model)
        frame = self._asked(frame, common)
        writer = ChatWriter if task.url == URLS[0] else CompletionWriter
        job = await prepare(state, frame, plan, writer, SLOW_TEXT)
        async with self._room(ticket, job.requests):
            answer = await generated(state, job)
        most = sum(request.params.max_tokens or 0 for request in job.requests)
        self._lengths.add(answer.usage.completion_tokens, most)
        answer.timings = msgspec.UNSET  # nobody waited for it
        return answer

    async def _embed(self, task: Task, ticket: int, frame: EngineRequest) -> object:
        state = self._state
        common, fields = decode_parts(task.payload(), PoolingFields, EmbeddingFields)
        state.check_model(common.model)
        frame = self._asked(frame, common)
        prompts = split_prompts(fields.input, "input")
        requests = await prepare_vectors(state, frame, prompts, common.pooling, SLOW_TEXT)
        async with self._room(ticket, requests):
            found = await pooled(state, requests)
        return embedded(fields, found, state.model_name)

    def _asked(self, frame: EngineRequest, common: CommonFields | PoolingFields) -> EngineRequest:
        """With what the line says itself of its prefix cache and its time."""
        salt = tenant_salt(self._tenant, common.cache_salt)
        deadline = frame.arrival_time + common.timeout if common.timeout else None
        return msgspec.structs.replace(frame, cache_salt=salt, deadline=deadline)

    @asynccontextmanager
    async def _room(self, ticket: int, requests: list[EngineRequest]) -> AsyncGenerator[None, None]:
        """Hold room in the KV cache; lower tickets get it first."""
        prompt = requests[0].prompt_token_ids
        rest = sum(len(request.prompt_token_ids) for request in requests[1:])
        most = sum(request.params.max_tokens or 0 for request in requests)
        output = rest + self._lengths.expected(most)
        turn = asyncio.Event()
        heapq.heappush(self._queue, (ticket, turn))
        try:
            while self._queue[0][0] != ticket or not self._fits(ticket, prompt, output):
                turn.clear()
                await turn.wait()
        finally:
            self._queue = [entry for entry in self._queue if entry[0] != ticket]
            heapq.heapify(self._queue)
            self._wake()
        try:
            yield
        finally:
            self._admission.leave(ticket)
            self._wake()

    def _fits(self, ticket: int, prompt: list[int], output: int) -> bool:
        return len(self._admission) <= self._slots and self._admission.admit(ticket, prompt, output)

    def _wake(self) -> None:
        if self._queue:
            self._queue[0][1].set()


def backfilling(state: ServerState) -> Callable[[str], Awaitable[Target]]:
    """Makes the targets of a server's tenants, once there is an engine; others go before them."""

    async def target(tenant: str) -> Target:
        while not state.client.ready:
            await asyncio.sleep(ENGINE_LOOK)
        return LocalTarget(state, tenant, backfill=True)

    return target
