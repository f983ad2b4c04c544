"""From a decoded request to what the engine takes: prompts, SamplingParams, EngineRequests.

Pure, but for tokenising, which the caller moves off the event loop when the text is long.
Not here: decoding (protocol.py), admission (state.py), answers (render.py).
"""

import hashlib
from typing import Any

import msgspec

from sixfold.core.errors import RequestError, SixfoldError
from sixfold.core.request import MAX_LOGPROBS, MAX_N, SamplingParams
from sixfold.serving.server.launch import ServerTokenizer
from sixfold.serving.server.protocol import (
    MAX_PROMPTS,
    ChatFields,
    CommonFields,
    CompletionFields,
    Message,
    refuse_absent,
)

TEMPLATE_KWARGS = ("enable_thinking",)
"""What `chat_template_kwargs` may set: a request must not reach into the template's other names."""


class Plan(msgspec.Struct, kw_only=True):
    """A checked request: its prompts, how to sample each, and how to show the answers."""

    prompts: list[str | list[int]]
    params: SamplingParams
    n: int
    default_max_tokens: int | None
    """Tokens to generate when the request doesn't say; None fills the context."""
    add_special_tokens: bool = True
    echo: bool = False
    drop_output: bool = False
    """max_tokens 0 with echo: one token is generated and not shown."""
    stream: bool = False
    include_usage: bool = False


def plan_completion(common: CommonFields, own: CompletionFields) -> Plan:
    """Check a completions request. Raises RequestError."""
    prompts = split_prompts(own.prompt)
    n = _count(common.n, len(prompts))
    if own.best_of is not None and own.best_of != n:
        raise RequestError("best_of must equal n", "leave best_of out", param="best_of")
    drop = common.max_tokens == 0 and own.echo
    params = sampling_params(
        common,
        max_tokens=1 if drop else common.max_tokens,
        logprobs=_logprobs("logprobs", own.logprobs),
        prompt_logprobs=own.logprobs if own.echo else None,
    )
    return Plan(
        prompts=prompts,
        params=params,
        n=n,
        default_max_tokens=16,
        add_special_tokens=own.add_special_tokens,
        echo=own.echo,
        drop_output=drop,
        stream=bool(common.stream),
        include_usage=wants_usage(common),
    )


def plan_chat(common: CommonFields, own: ChatFields, tokenizer: ServerTokenizer) -> Plan:
    """Check a chat request and render its prompt. Raises RequestError."""
    if own.top_logprobs is not None and not own.logprobs:
        raise RequestError(
            "top_logprobs needs logprobs", "set logprobs to true", param="top_logprobs"
        )
    limit = own.max_completion_tokens
    if limit is not None and common.max_tokens not in (None, limit):
        raise RequestError(
            "max_tokens and max_completion_tokens differ",
            "send one of them",
            param="max_completion_tokens",
        )
    top = _logprobs("top_logprobs", own.top_logprobs)
    params = sampling_params(
        common,
        max_tokens=common.max_tokens if limit is None else limit,
        logprobs=(top or 0) if own.logprobs else None,
        prompt_logprobs=None,
    )
    n = _count(common.n, 1)
    kwargs = own.chat_template_kwargs or {}
    for name in kwargs:
        if name not in TEMPLATE_KWARGS:
            raise RequestError(
                f"chat_template_kwargs takes {', '.join(TEMPLATE_KWARGS)}, not {name[:64]!r}",
                "leave it out",
                param="chat_template_kwargs",
            )
    prompt = render_chat(own.messages, tokenizer, own.add_generation_prompt, kwargs)
    return Plan(
        prompts=[prompt],
        params=params,
        n=n,
        default_max_tokens=None,
        add_special_tokens=False,
        stream=bool(common.stream),
        include_usage=wants_usage(common),
    )


def sampling_params(
    common: CommonFields,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    """The engine's parameters; what the request leaves out keeps SamplingParams' default."""
    if common.response_format is not None and common.response_format.type != "text":
        raise RequestError(
            "response_format other than text is not in this build",
            "leave response_format out",
            param="response_format",
        )
    given: dict[str, Any] = {
        name: getattr(common, name) for name in _DIRECT if getattr(common, name) is not None
    }
    stop = [common.stop] if isinstance(common.stop, str) else common.stop or []
    for text in stop:
        check_text(text, "stop")
    return SamplingParams(
        **given,
        stop=stop,
        logit_bias=_logit_bias(common.logit_bias or {}),
        max_tokens=max_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )


_DIRECT = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop_token_ids",
    "include_stop_str_in_output",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "skip_special_tokens",
)


def wants_usage(common: CommonFields) -> bool:
    """True when the stream ends with a usage chunk. Raises RequestError without stream."""
    if common.stream_options is None:
        return False
    if not common.stream:
        raise RequestError(
            "stream_options needs stream", "set stream to true", param="stream_options"
        )
    return common.stream_options.include_usage


def split_prompts(prompt: str | list[Any], param: str = "prompt") -> list[str | list[int]]:
    """A string, token ids, or a list of either, as a list of prompts. Raises RequestError."""
    if isinstance(prompt, str):
        return [check_text(prompt, param)]
    kinds = {type(item) for item in prompt}
    if kinds == {int}:
        return [prompt]
    if len(kinds) != 1:
        raise RequestError(
            f"{param} is a string, a list of strings, token ids, or a list of lists of token ids",
            "don't mix kinds, and don't send an empty list",
            param=param,
        )
    if len(prompt) > MAX_PROMPTS:
        raise RequestError(
            f"{len(prompt)} prompts in one request, but at most {MAX_PROMPTS} are taken",
            "split the request",
            param=param,
        )
    for item in prompt:
        if isinstance(item, str):
            check_text(item, param)
    return prompt


def check_text(text: str, param: str) -> str:
    """Refuse text that is no Unicode text: NUL and lone surrogates. Raises RequestError."""
    try:
        text.encode()
        if "\x00" not in text:
            return text
    except UnicodeEncodeError:
        pass
    raise RequestError(
        f"{param} holds a NUL character or a lone surrogate", "remove it", param=param
    )


def render_chat(
    messages: list[Message],
    tokenizer: ServerTokenizer,
    add_generation_prompt: bool,
    kwargs: dict[str, bool],
) -> str:
    """The prompt that the model's chat template makes of `messages`. Raises RequestError."""
    plain = [_plain_message(message) for message in messages]
    if tokenizer.chat_template is None:
        raise RequestError(
            "this model has no chat template", "use /v1/completions", param="messages"
        )
    try:
        return tokenizer.apply_chat_template(
            plain, add_generation_prompt=add_generation_prompt, **kwargs
        )
    except SixfoldError as error:
        raise RequestError(error.message, error.hint, param="messages") from None
    except Exception as error:
        # A template refuses by raising (roles must alternate ...): the caller's to mend.
        raise RequestError(
            f"the model's chat template refuses these messages: {type(error).__name__}",
            "check the order of roles",
            param="messages",
        ) from None


def _plain_message(message: Message) -> dict[str, Any]:
    for name in ("tool_calls", "function_call", "audio"):
        refuse_absent(name, getattr(message, name))
    if message.role in ("tool", "function"):
        raise RequestError("tools are not in this build", "leave the message out", "messages")
    content = message.content
    if isinstance(content, list):
        for part in content:
            if part.type != "text" or part.text is None:
                raise RequestError(
                    f"content of type {part.type[:64]!r} is not in this build",
                    "send text parts",
                    param="messages",
                )
        content = "".join(part.text or "" for part in content)
    plain = {
        "role": "system" if message.role == "developer" else message.role,
        "content": check_text(content or "", "messages"),
    }
    if message.name is not None:
        plain["name"] = check_text(message.name, "messages")
    return plain


def tokenize_prompts(
    plan: Plan, tokenizer: ServerTokenizer, max_model_len: int
) -> tuple[list[list[int]], SamplingParams]:
    """Token ids of every prompt, and parameters with max_tokens settled and checked.

    Raises RequestError where a prompt is empty or leaves no room. Slow for long texts.
    """
    plan.params.validate(tokenizer.vocab_size)
    for text in plan.prompts:
        if isinstance(text, str):
            _check_length(tokenizer.min_tokens(text), max_model_len)
    prompts = [_token_ids(p, tokenizer, plan.add_special_tokens) for p in plan.prompts]
    longest = max(len(ids) for ids in prompts)
    _check_length(longest, max_model_len)
    room = max_model_len - longest
    wanted = plan.params.max_tokens
    if wanted is None:
        wanted = room if plan.default_max_tokens is None else min(plan.default_max_tokens, room)
        wanted = max(wanted, min(plan.params.min_tokens, room))
    if wanted > room:
        raise RequestError(
            f"prompt ({longest}) and max_tokens ({wanted}) exceed the context of {max_model_len}",
            f"lower max_tokens to {room}",
            param="max_tokens",
        )
    params = msgspec.structs.replace(plan.params, max_tokens=wanted)
    params.validate(tokenizer.vocab_size)
    return prompts, params


def _check_length(num_tokens: int, max_model_len: int) -> None:
    if num_tokens >= max_model_len:
        raise RequestError(
            f"the prompt has {num_tokens} or more tokens, but the context holds {max_model_len}",
            "shorten the prompt, or serve with a larger max_model_len",
            param="prompt",
        )


def _token_ids(
    prompt: str | list[int], tokenizer: ServerTokenizer, add_special_tokens: bool
) -> list[int]:
    if isinstance(prompt, str):
        try:
            ids = tokenizer.encode(prompt, add_special_tokens=add_special_tokens)
        except SixfoldError as error:
            raise RequestError(error.message, error.hint, param="prompt") from None
        if not ids and tokenizer.bos_token_id is not None:
            ids = [tokenizer.bos_token_id]
    else:
        ids = prompt
    if not ids:
        raise RequestError("the prompt is empty", "send at least one token", param="prompt")
    if max(ids) >= tokenizer.vocab_size:
        raise RequestError(
            f"prompt names token {max(ids)}, outside the vocabulary of {tokenizer.vocab_size}",
            "use ids from /tokenize",
            param="prompt",
        )
    return ids


def tenant_salt(tenant: str, cache_salt: str | None) -> str:
    """The salt that parts prefix caches: by API key where there are several, then by request."""
    if not tenant:
        return cache_salt or ""
    digest = hashlib.blake2s(tenant.encode(), digest_size=16).hexdigest()
    return f"{digest}:{cache_salt or ''}"


def _count(n: int | None, num_prompts: int) -> int:
    n = 1 if n is None else n
    if not 1 <= n <= MAX_N or n * num_prompts > MAX_PROMPTS:
        raise RequestError(
            f"n is {n} for {num_prompts} prompts, but n may be 1 to {MAX_N} and n x prompts "
            f"at most {MAX_PROMPTS}",
            "lower n, or split the request",
            param="n",
        )
    return n


def _logprobs(name: str, value: int | None) -> int | None:
    if value is not None and not 0 <= value <= MAX_LOGPROBS:
        raise RequestError(
            f"{name} is {value}, but must be in [0, {MAX_LOGPROBS}]", "lower it", param=name
        )
    return value


def _logit_bias(bias: dict[str, float]) -> dict[int, float]:
    try:
        if any(not k.isascii() or not k.isdigit() or len(k) > 10 for k in bias):
            raise ValueError
        return {int(token): value for token, value in bias.items()}
    except ValueError:
        raise RequestError(
            "logit_bias maps token ids, as strings, to numbers",
            'as in {"42": -100}',
            param="logit_bias",
        ) from None
