"""Everything but generation: models, tokenising, health, versions, load, metrics, cache."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

import sixfold
from sixfold.core.errors import RequestError
from sixfold.serving.server import metrics, responses
from sixfold.serving.server.convert import check_text, render_chat
from sixfold.serving.server.http_errors import HttpError
from sixfold.serving.server.protocol import DetokenizeFields, TokenizeFields, decode_body
from sixfold.serving.server.render import token_text
from sixfold.serving.server.responses import to_json
from sixfold.serving.server.routes_openai import read_json_body
from sixfold.serving.server.state import SLOW_TEXT, ServerState

STATS_SECONDS = 1.0
"""How long /metrics and /load wait for an engine that is in a long step."""

T = TypeVar("T")


def _json(value: object, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")


async def models(state: ServerState, _request: Request) -> Response:
    """GET /v1/models."""
    return _json(responses.ModelList(data=[_card(state)]))


async def model(state: ServerState, request: Request) -> Response:
    """GET /v1/models/{id}."""
    state.check_model(request.path_params["id"])
    return _json(_card(state))


def _card(state: ServerState) -> responses.ModelCard:
    limits = state.client.limits
    return responses.ModelCard(
        id=state.model_name,
        created=int(state.started),
        root=state.model_name,
        max_model_len=None if limits is None else limits.max_model_len,
    )


async def tokenize(state: ServerState, request: Request) -> Response:
    """POST /tokenize."""
    body = await read_json_body(request)

    def work() -> responses.TokenizeResponse:
        fields = decode_body(body, TokenizeFields)
        state.check_model(fields.model)
        if (fields.prompt is None) == (fields.messages is None):
            raise RequestError("send prompt or messages", "send one of them", param="prompt")
        text, special = fields.prompt or "", True
        if fields.messages is not None:
            text = render_chat(fields.messages, state.tokenizer, fields.add_generation_prompt, {})
            special = False
        if fields.add_special_tokens is not None:
            special = fields.add_special_tokens
        tokens = state.tokenizer.encode(check_text(text, "prompt"), add_special_tokens=special)
        strings = None
        if fields.return_token_strs:
            strings = [token_text(state.tokenizer, token) for token in tokens]
        return responses.TokenizeResponse(
            count=len(tokens),
            max_model_len=limits.max_model_len,
            tokens=tokens,
            token_strs=strings,
        )

    limits = state.limits()
    return _json(await _off_loop(state, SLOW_TEXT, work))


async def detokenize(state: ServerState, request: Request) -> Response:
    """POST /detokenize."""
    body = await read_json_body(request)

    def work() -> dict[str, str]:
        fields = decode_body(body, DetokenizeFields)
        state.check_model(fields.model)
        if fields.tokens and max(fields.tokens) >= state.tokenizer.vocab_size:
            raise RequestError(
                f"tokens names {max(fields.tokens)}, outside the vocabulary",
                "use ids from /tokenize",
                param="tokens",
            )
        return {"prompt": state.tokenizer.decode(fields.tokens, skip_special_tokens=False)}

    return _json(await _off_loop(state, len(body), work))


async def _off_loop(state: ServerState, size: int, work: Callable[[], T]) -> T:
    """As ServerState.off_loop, under the same bound as generation requests."""
    with state.admit(1):
        return await state.off_loop(size, work)


async def health(_state: ServerState, _request: Request) -> Response:
    """GET /health: this process is alive."""
    return _json({"status": "ok"})


async def ready(state: ServerState, _request: Request) -> Response:
    """GET /ready: 200 when a request would be served now, else 503 and why."""
    if state.ready:
        return _json({"status": "ready"})
    why = "draining" if state.draining else "engine starting"
    return _json({"status": why}, 503)


async def version(_state: ServerState, _request: Request) -> Response:
    """GET /version."""
    return _json({"version": sixfold.__version__})


async def load(state: ServerState, _request: Request) -> Response:
    """GET /load: what a router weighs; `server_load` is vLLM's."""
    stats = await state.client.refresh_stats(STATS_SECONDS)
    return _json(
        {
            "server_load": state.num_sequences,
            "num_requests_running": stats.num_requests_running,
            "num_requests_waiting": stats.num_requests_waiting,
            "kv_cache_usage": stats.kv_cache_usage,
            "max_queued_requests": state.config.max_queued_requests,
            "ready": state.ready,
        }
    )


async def metrics_page(state: ServerState, _request: Request) -> Response:
    """GET /metrics: Prometheus text."""
    stats = await state.client.refresh_stats(STATS_SECONDS)
    page = state.metrics.render(stats, state.client.num_restarts)
    return Response(page, headers={"content-type": metrics.CONTENT_TYPE})


async def reset_prefix_cache(state: ServerState, _request: Request) -> Response:
    """POST /reset_prefix_cache: 200 when the cached prefixes are dropped."""
    try:
        async with asyncio.timeout(state.config.engine_hang_timeout):
            done = await state.client.reset_prefix_cache()
    except TimeoutError:
        done = False
    if not done:
        raise HttpError(409, "the prefix cache is in use", "try again when requests have ended")
    return _json({"status": "ok"})
