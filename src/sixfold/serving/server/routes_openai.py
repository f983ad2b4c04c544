"""/v1/completions and /v1/chat/completions: decode, admit, tokenise, run, answer.

Not here: each of these steps (protocol, state, convert, generation, render).
"""

import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sixfold.core.errors import RequestError
from sixfold.core.request import EngineRequest
from sixfold.serving.server.convert import Plan, plan_chat, plan_completion
from sixfold.serving.server.generation import request_frame, run_sequences
from sixfold.serving.server.http_errors import HttpError
from sixfold.serving.server.limits import read_body
from sixfold.serving.server.protocol import (
    ChatFields,
    CommonFields,
    CompletionFields,
    decode_generation,
)
from sixfold.serving.server.render import ChatWriter, CompletionWriter
from sixfold.serving.server.responses import to_event, to_json
from sixfold.serving.server.state import SLOW_TEXT, ServerState
from sixfold.serving.server.streaming import EventStream, until_gone
from sixfold.serving.server.whole import WriterKind, generated, prepare


async def completions(state: ServerState, request: Request) -> ASGIApp:
    """POST /v1/completions."""
    body = await read_json_body(request)

    def plan() -> tuple[CommonFields, Plan]:
        common, own = decode_generation(body, CompletionFields)
        return common, plan_completion(common, own)

    return await _answer(state, request, await state.off_loop(len(body), plan), CompletionWriter)


async def chat_completions(state: ServerState, request: Request) -> ASGIApp:
    """POST /v1/chat/completions."""
    body = await read_json_body(request)

    def plan() -> tuple[CommonFields, Plan]:
        common, own = decode_generation(body, ChatFields)
        return common, plan_chat(common, own, state.tokenizer)

    return await _answer(state, request, await state.off_loop(SLOW_TEXT, plan), ChatWriter)


async def read_json_body(request: Request) -> bytes:
    """The body of a JSON request. Raises HttpError 415 where it says to be something else.

    Asking for the type also keeps web pages out: they can't send JSON to another site unasked.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(415, "the body must be JSON", "send Content-Type: application/json")
    return await read_body(request.receive)


async def _answer(
    state: ServerState,
    request: Request,
    planned: tuple[CommonFields, Plan],
    writer: WriterKind,
) -> ASGIApp:
    common, plan = planned
    state.check_model(common.model)
    if common.priority and state.engine_config.scheduling_policy != "priority":
        raise RequestError(
            "priority has no effect under scheduling_policy fcfs",
            "leave it out, or serve with scheduling_policy priority",
            param="priority",
        )
    frame = request_frame(
        request.scope["state"]["arrival_time"],
        common.priority,
        (request.scope["state"]["tenant"], common.cache_salt),
        request_timeout(request, common.timeout, state.config.request_timeout),
    )
    events = _stream if plan.stream else _whole
    return events(state, frame, plan, writer)


def _stream(state: ServerState, frame: EngineRequest, plan: Plan, writer: WriterKind) -> ASGIApp:
    async def events() -> AsyncGenerator[bytes, None]:
        with state.admit(plan.n * len(plan.prompts)):
            job = await prepare(state, frame, plan, writer)
            async with aclosing(run_sequences(state, job.requests)) as deltas:
                async for index, delta in deltas:
                    yield to_event(job.writer.add(index, delta))
            if plan.include_usage:
                yield to_event(job.writer.usage_chunk())

    return EventStream(events(), frame.request_id)


def _whole(state: ServerState, frame: EngineRequest, plan: Plan, writer: WriterKind) -> ASGIApp:
    async def collect() -> bytes:
        with state.admit(plan.n * len(plan.prompts)):
            job = await prepare(state, frame, plan, writer)
            return to_json(await generated(state, job))

    return whole_answer(collect, frame.request_id)


def whole_answer(collect: Callable[[], Coroutine[Any, Any, bytes]], request_id: str) -> ASGIApp:
    """JSON in one piece; given up when the client goes."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        body = await until_gone(receive, collect())
        headers = {"x-request-id": request_id}
        response = Response(body, headers=headers, media_type="application/json")
        await response(scope, receive, send)

    return answer


def request_timeout(request: Request, asked: float | None, default: float) -> float:
    """Seconds that the request may take: body, else X-Request-Timeout, else default; 0 is none."""
    if asked is not None:
        return asked
    header = request.headers.get("x-request-timeout")
    if header is None:
        return default
    try:
        seconds = float(header) if len(header) <= 32 else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86400:
        raise RequestError(
            "X-Request-Timeout must be seconds in (0, 86400]", "as in 30", "X-Request-Timeout"
        )
    return seconds
