"""The answers of the API, as typed structs in OpenAI's shape. Not here: how they are filled.

`UNSET` fields are left out of the JSON; None is written as null.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from sixfold.core.request import Timings


class PromptTokensDetails(msgspec.Struct):
    """`usage.prompt_tokens_details`."""

    cached_tokens: int = 0


class Usage(msgspec.Struct, kw_only=True):
    """Tokens in and out. A prompt counts once, however many choices it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class CompletionLogprobs(msgspec.Struct):
    """Completions' logprobs: four lists with one entry per token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, kw_only=True):
    """One choice of /v1/completions, whole or a stream's next piece."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class CompletionResponse(msgspec.Struct, kw_only=True):
    """The answer of /v1/completions, and each chunk of its stream."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    object: str = "text_completion"
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET


class PoolingUsage(msgspec.Struct, kw_only=True):
    """Tokens in; none come out."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct, kw_only=True):
    """One text's vector, as numbers or base64."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class EmbeddingResponse(msgspec.Struct, kw_only=True):
    """The answer of /v1/embeddings."""

    data: list[Embedding]
    model: str
    usage: PoolingUsage
    object: str = "list"


class RankedText(msgspec.Struct):
    """A document as it came."""

    text: str


class Ranked(msgspec.Struct, kw_only=True):
    """A document's place: `index` is that of the request."""

    index: int
    relevance_score: float
    document: RankedText | UnsetType = UNSET


class RerankResponse(msgspec.Struct, kw_only=True):
    """The answer of /v1/rerank."""

    id: str
    model: str
    results: list[Ranked]
    usage: PoolingUsage


class Score(msgspec.Struct, kw_only=True):
    """One pair's."""

    index: int
    score: float
    object: str = "score"


class ScoreResponse(msgspec.Struct, kw_only=True):
    """The answer of /score."""

    id: str
    model: str
    data: list[Score]
    usage: PoolingUsage
    object: str = "list"


class TokenLogprob(msgspec.Struct, kw_only=True):
    """One token of chat's logprobs: `bytes` are exact where `token` is not whole characters."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list["TokenLogprob"] | UnsetType = UNSET


class ChatLogprobs(msgspec.Struct):
    """Chat's logprobs."""

    content: list[TokenLogprob]


class ChatMessage(msgspec.Struct, kw_only=True):
    """The assistant's message."""

    role: str = "assistant"
    content: str | None = None
    refusal: str | None = None


class ChatChoice(msgspec.Struct, kw_only=True):
    """One choice of /v1/chat/completions."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class ChatResponse(msgspec.Struct, kw_only=True):
    """The answer of /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: str = "chat.completion"
    timings: Timings | UnsetType = UNSET


class ChatDelta(msgspec.Struct, kw_only=True):
    """What a chunk adds to the message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    """One choice's part of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class ChatChunk(msgspec.Struct, kw_only=True):
    """One chunk of a chat stream."""

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    object: str = "chat.completion.chunk"
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET


class ModelCard(msgspec.Struct, kw_only=True):
    """One entry of /v1/models."""

    id: str
    created: int
    root: str
    max_model_len: int | None
    object: str = "model"
    owned_by: str = "sixfold"


class ModelList(msgspec.Struct, kw_only=True):
    """/v1/models."""

    data: list[ModelCard]
    object: str = "list"


class TokenizeResponse(msgspec.Struct, kw_only=True):
    """/tokenize (vLLM's shape)."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class ErrorBody(msgspec.Struct, kw_only=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | int | None = None


class ErrorResponse(msgspec.Struct):
    """Every error's body, and a stream's error chunk."""

    error: ErrorBody


_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> bytes:
    """JSON of a struct or of plain data."""
    return _encoder.encode(value)


def to_event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + _encoder.encode(value) + b"\n\n"


DONE_EVENT = b"data: [DONE]\n\n"
