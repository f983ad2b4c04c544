"""/v1/embeddings, /v1/rerank and /score: vectors of texts, and how near they are to each other.

The model is a decoder: a text's vector is the mean of its hidden states, or the last one. Not here:
computing them (engine/runner/pooling.py).
"""

import base64
import math
import struct
import uuid
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.types import ASGIApp

from sixfold.core.errors import RequestError
from sixfold.serving.server import responses
from sixfold.serving.server.convert import split_prompts
from sixfold.serving.server.generation import request_frame
from sixfold.serving.server.protocol import (
    EmbeddingFields,
    PoolingFields,
    RerankFields,
    ScoreFields,
    decode_parts,
)
from sixfold.serving.server.responses import to_json
from sixfold.serving.server.routes_openai import read_json_body, request_timeout, whole_answer
from sixfold.serving.server.state import ServerState
from sixfold.serving.server.whole import Vector, Vectors, pooled, prepare_vectors


async def embeddings(state: ServerState, request: Request) -> ASGIApp:
    """POST /v1/embeddings."""
    body = await read_json_body(request)
    common, fields = await state.off_loop(
        len(body), lambda: decode_parts(body, PoolingFields, EmbeddingFields)
    )
    prompts = split_prompts(fields.input, "input")

    def answer(found: Vectors) -> responses.EmbeddingResponse:
        return embedded(fields, found, state.model_name)

    return _answer(state, request, common, prompts, answer)


def embedded(fields: EmbeddingFields, found: Vectors, model: str) -> responses.EmbeddingResponse:
    """The answer of /v1/embeddings. Raises RequestError for more dimensions than there are."""
    data = [
        responses.Embedding(index=i, embedding=written(shortened(v, fields.dimensions), fields))
        for i, v in enumerate(found.vectors)
    ]
    return responses.EmbeddingResponse(data=data, model=model, usage=found.usage)


async def rerank(state: ServerState, request: Request) -> ASGIApp:
    """POST /v1/rerank: documents by how near they are to the query, the nearest first."""
    body = await read_json_body(request)
    common, fields = await state.off_loop(
        len(body), lambda: decode_parts(body, PoolingFields, RerankFields)
    )
    texts = [d if isinstance(d, str) else d.text for d in fields.documents]
    prompts = split_prompts([fields.query, *texts], "documents")

    def answer(found: Vectors) -> responses.RerankResponse:
        query, *documents = found.vectors
        scores = [cosine(query, vector) for vector in documents]
        order = sorted(range(len(texts)), key=lambda i: -scores[i])
        results = [responses.Ranked(index=i, relevance_score=scores[i]) for i in order]
        for ranked in results if fields.return_documents else ():
            ranked.document = responses.RankedText(texts[ranked.index])
        return responses.RerankResponse(
            id=f"rerank-{uuid.uuid4().hex}", model=state.model_name,
            results=results[: fields.top_n], usage=found.usage,
        )  # fmt: skip

    return _answer(state, request, common, prompts, answer)


async def score(state: ServerState, request: Request) -> ASGIApp:
    """POST /score: how near each text is to its partner, or all of them to one."""
    body = await read_json_body(request)
    common, fields = await state.off_loop(
        len(body), lambda: decode_parts(body, PoolingFields, ScoreFields)
    )
    first = [fields.text_1] if isinstance(fields.text_1, str) else fields.text_1
    second = [fields.text_2] if isinstance(fields.text_2, str) else fields.text_2
    if len(first) not in (1, len(second)):
        raise RequestError(
            f"text_1 has {len(first)} texts, text_2 {len(second)}",
            "send one text_1, or one for each text_2",
            param="text_1",
        )
    prompts = split_prompts([*first, *second], "text_2")

    def answer(found: Vectors) -> responses.ScoreResponse:
        ours, theirs = found.vectors[: len(first)], found.vectors[len(first) :]
        pairs = zip(ours * len(theirs) if len(ours) == 1 else ours, theirs, strict=True)
        data = [responses.Score(index=i, score=cosine(a, b)) for i, (a, b) in enumerate(pairs)]
        return responses.ScoreResponse(
            id=f"score-{uuid.uuid4().hex}", model=state.model_name, data=data, usage=found.usage
        )

    return _answer(state, request, common, prompts, answer)


def _answer(
    state: ServerState, request: Request, fields: PoolingFields,
    prompts: list[str | list[int]], answer: Callable[[Vectors], object],
) -> ASGIApp:  # fmt: skip
    state.check_model(fields.model)
    frame = request_frame(
        request.scope["state"]["arrival_time"], 0,
        (request.scope["state"]["tenant"], fields.cache_salt),
        request_timeout(request, fields.timeout, state.config.request_timeout),
    )  # fmt: skip

    async def collect() -> bytes:
        with state.admit(len(prompts)):
            requests = await prepare_vectors(state, frame, prompts, fields.pooling)
            found = await pooled(state, requests)
        return to_json(answer(found))

    return whole_answer(collect, frame.request_id)


def shortened(vector: Vector, dimensions: int | None) -> Vector:
    """The first so many, of length 1 again. Raises RequestError where there are fewer."""
    if dimensions is None:
        return vector
    if dimensions > len(vector):
        raise RequestError(
            f"dimensions is {dimensions}, but the model's vectors have {len(vector)}",
            "leave it out, or ask for fewer",
            param="dimensions",
        )
    length = math.sqrt(math.fsum(x * x for x in vector[:dimensions])) or 1.0
    return tuple(x / length for x in vector[:dimensions])


def written(vector: Vector, fields: EmbeddingFields) -> list[float] | str:
    """As numbers, or base64 of little-endian float32 values."""
    if fields.encoding_format == "float":
        return list(vector)
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Of vectors of length 1."""
    return math.fsum(x * y for x, y in zip(a, b, strict=True))
