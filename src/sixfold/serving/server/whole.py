"""Answers in one piece, for routes and for batches: tokenise, run, render.

Not here: who may ask and how much (state.py), HTTP.
"""

import struct
from contextlib import aclosing
from typing import Any

import msgspec

from sixfold.core.request import EngineRequest, Pooling, SamplingParams
from sixfold.serving.server import responses
from sixfold.serving.server.convert import Plan, tokenize_prompts
from sixfold.serving.server.generation import build_requests, run_sequences
from sixfold.serving.server.render import ChatWriter, CompletionWriter, Prompts, Writer
from sixfold.serving.server.state import ServerState

Vector = tuple[float, ...]
WriterKind = type[ChatWriter] | type[CompletionWriter]


class Job(msgspec.Struct):
    """A request that is ready to run."""

    plan: Plan
    writer: Writer
    requests: list[EngineRequest]


class Vectors(msgspec.Struct):
    """Of all texts, with what they cost."""

    vectors: list[Vector]
    usage: responses.PoolingUsage


async def prepare(
    state: ServerState, frame: EngineRequest, plan: Plan, writer: WriterKind, size: int = 0
) -> Job:
    """Tokenise, check against the engine's limits, and split into sequences.

    `size`: of what is to be done, where it is more than the prompts' length. Raises RequestError.
    """
    limits = state.limits()
    token_ids, params = await state.off_loop(
        max(size, sum(len(prompt) for prompt in plan.prompts)),
        lambda: tokenize_prompts(plan, state.tokenizer, limits.max_model_len),
    )
    prompts = Prompts(
        token_ids=token_ids,
        tokenizer=state.tokenizer,
        model=state.model_name,
        request_id=frame.request_id,
    )
    return Job(plan, writer(plan, prompts), build_requests(token_ids, params, plan.n, frame))


async def generated(state: ServerState, job: Job) -> Any:
    """Run it; the answer. Raises SixfoldError."""
    async with aclosing(run_sequences(state, job.requests)) as deltas:
        async for index, delta in deltas:
            job.writer.add(index, delta)
    return job.writer.final()


async def prepare_vectors(
    state: ServerState, frame: EngineRequest, prompts: list[str | list[int]], pooling: Pooling,
    size: int = 0,
) -> list[EngineRequest]:  # fmt: skip
    """Tokenise texts whose vectors are wanted: a request for each. Raises RequestError."""
    limits = state.limits()
    plan = Plan(prompts=prompts, params=SamplingParams(max_tokens=1), n=1, default_max_tokens=1)
    token_ids, params = await state.off_loop(
        max(size, sum(map(len, prompts))),
        lambda: tokenize_prompts(plan, state.tokenizer, limits.max_model_len),
    )
    return [
        msgspec.structs.replace(
            frame, request_id=f"{frame.request_id}-{i}", prompt_token_ids=ids, params=params,
            pooling=pooling,
        )
        for i, ids in enumerate(token_ids)
    ]  # fmt: skip


async def pooled(state: ServerState, requests: list[EngineRequest]) -> Vectors:
    """Run them; the vectors in their order. Raises SixfoldError."""
    found: list[Vector] = [()] * len(requests)
    async with aclosing(run_sequences(state, requests)) as deltas:
        async for index, delta in deltas:
            if delta.embedding is not None:
                found[index] = unpacked(delta.embedding)
    tokens = sum(len(request.prompt_token_ids) for request in requests)
    return Vectors(found, responses.PoolingUsage(prompt_tokens=tokens, total_tokens=tokens))


def unpacked(data: bytes) -> Vector:
    """Of the engine's float32 values."""
    return struct.unpack(f"<{len(data) // 4}f", data)
