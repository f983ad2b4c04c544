"""The requests of the API, as typed structs: what a body may hold, and how it is decoded.

A field that is not known here is refused by name (400), but for IGNORED_FIELDS: OpenAI fields
that change nothing in this server. ABSENT_FIELDS belong to things that this build doesn't have:
an empty value passes, anything else is a 400 that says so. Not here: what fields mean
(convert.py) and the shape of answers (render.py).
"""

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from sixfold.core.errors import RequestError

MAX_PROMPTS = 1024
"""Prompts in one completions request; prompts x n has the same bound."""

MAX_MESSAGES = 4096

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Salt = Annotated[str, Meta(min_length=1, max_length=1024)]
_Timeout = Annotated[float, Meta(gt=0, le=86400)]
_NONE = msgspec.Raw(b"null")

IGNORED_FIELDS = frozenset(
    (
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "verbosity",
        "reasoning_effort",
        "parallel_tool_calls",
        "prediction",
    )
)
"""OpenAI fields that every request accepts and ignores: they have no effect here."""

ABSENT_FIELDS = frozenset(
    (
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "modalities",
        "audio",
        "suffix",
        "web_search_options",
        "structured_outputs",
        "guided_json",
        "guided_regex",
        "grammar",
    )
)
"""Fields of what this build doesn't have; null, [], {}, "", "none" and "auto" pass."""

_EMPTY_VALUES = frozenset((b"null", b"[]", b"{}", b'""', b'"none"', b'"auto"', b'["text"]'))


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`stream_options`: with include_usage, a last chunk without choices holds the usage."""

    include_usage: bool = False
    include_obfuscation: msgspec.Raw = _NONE


class ResponseFormat(msgspec.Struct, kw_only=True):
    """`response_format`: only {"type": "text"} is in this build."""

    type: str


class CommonFields(msgspec.Struct, kw_only=True):
    """What completions and chat share."""

    model: str | None = None
    max_tokens: Int32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int32 | None = None
    min_p: float | None = None
    n: Int32 | None = None
    seed: Int64 | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    include_stop_str_in_output: bool = False
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    min_tokens: Int32 | None = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    priority: Int32 = 0
    cache_salt: _Salt | None = None
    timeout: _Timeout | None = None
    response_format: ResponseFormat | None = None


class CompletionFields(msgspec.Struct, kw_only=True):
    """What only /v1/completions has."""

    prompt: str | list[str | TokenId | list[TokenId]]
    echo: bool = False
    logprobs: Int32 | None = None
    best_of: Int32 | None = None
    add_special_tokens: bool = True


class ContentPart(msgspec.Struct, kw_only=True):
    """One part of a message's content; a `type` other than text is refused by name."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One chat message. What clients echo of earlier answers is accepted."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: msgspec.Raw = _NONE
    function_call: msgspec.Raw = _NONE
    audio: msgspec.Raw = _NONE
    refusal: msgspec.Raw = _NONE
    annotations: msgspec.Raw = _NONE
    reasoning_content: msgspec.Raw = _NONE


class ChatFields(msgspec.Struct, kw_only=True):
    """What only /v1/chat/completions has."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Int32 | None = None
    logprobs: bool | None = None
    top_logprobs: Int32 | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, bool] | None = None


class PoolingFields(msgspec.Struct, kw_only=True):
    """What embeddings, ranking and scoring share. `pooling`: of the hidden states."""

    model: str | None = None
    pooling: Literal["mean", "last"] = "mean"
    cache_salt: _Salt | None = None
    timeout: _Timeout | None = None


class EmbeddingFields(msgspec.Struct, kw_only=True):
    """/v1/embeddings."""

    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A text to rank, as some clients send it."""

    text: str


class RerankFields(msgspec.Struct, kw_only=True):
    """/v1/rerank."""

    query: str
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MAX_PROMPTS - 1)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = True


class ScoreFields(msgspec.Struct, kw_only=True):
    """/score."""

    text_1: str | Annotated[list[str], Meta(min_length=1)]
    text_2: str | Annotated[list[str], Meta(min_length=1)]


class TokenizeFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """/tokenize: a prompt, or messages that become one."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False


class DetokenizeFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """/detokenize: token ids that become text."""

    tokens: Annotated[list[TokenId], Meta(max_length=1 << 20)]
    model: str | None = None


C = TypeVar("C", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)
K = TypeVar("K")


def decode_body(body: bytes, kind: type[K]) -> K:
    """Decode JSON into `kind`. Raises RequestError that names the offending field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except RecursionError:
        raise RequestError("the JSON is nested too deeply", "flatten it") from None
    except UnicodeDecodeError:
        raise RequestError("the body is not valid UTF-8", "send UTF-8 JSON") from None
    except msgspec.ValidationError as error:
        raise _field_error(str(error)) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", "send a JSON object") from None


def decode_generation(body: bytes, own: type[T]) -> tuple[CommonFields, T]:
    """Decode a generation request into its common and its own fields; refuse unknown names."""
    return decode_parts(body, CommonFields, own)


def decode_parts(body: bytes, common: type[C], own: type[T]) -> tuple[C, T]:
    """Decode a body into two structs that have its fields together; refuse unknown names."""
    known = {field.name for kind in (common, own) for field in msgspec.structs.fields(kind)}
    for name, raw in decode_body(body, dict[str, msgspec.Raw]).items():
        if name in known or name in IGNORED_FIELDS:
            continue
        if name not in ABSENT_FIELDS:
            raise _unknown_field(name)
        refuse_absent(name, raw)
    return decode_body(body, common), decode_body(body, own)


def refuse_absent(name: str, raw: msgspec.Raw) -> None:
    """Raise RequestError unless the value of a field that this build doesn't have is empty."""
    if bytes(raw).strip() not in _EMPTY_VALUES:
        raise RequestError(
            f"{name} is not in this build", f"leave {name} out: only text comes and goes", name
        )


def _unknown_field(name: str) -> RequestError:
    shown = name if len(name) <= 64 else name[:64] + "..."
    return RequestError(f"unknown field {shown!r}", "leave it out", param=shown)


def _field_error(message: str) -> RequestError:
    """msgspec says "Expected ..., got ... - at `$.field[0]`": the path's first name is param."""
    unknown = re.search(r"unknown field `(.{0,64})", message)
    found = re.search(r"`\$\.([A-Za-z_0-9]+)", message)
    missing = re.search(r"missing required field `([A-Za-z_0-9]+)`", message)
    name = next((m.group(1).rstrip("`") for m in (found, missing, unknown) if m), None)
    return RequestError(message[:500], "see the field's type in the API's reference", param=name)
