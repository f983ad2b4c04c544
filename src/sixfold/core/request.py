"""What a user asks for and what comes back: the records that every room passes on.

Field names and defaults are vLLM's, so that code written for it carries over.
"""

import math
from typing import Any, Literal

import msgspec

from sixfold.core.errors import RequestError

FinishReason = Literal["stop", "length", "abort", "error", "deadline"]

MAX_LOGPROBS = 64
MAX_STOP_STRINGS = 32
MAX_N = 128


class SamplingParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How tokens are chosen. Construct it, then call `validate` before it reaches an engine.

    `temperature` 0 is greedy. `top_k` 0 or -1 means all. `seed` None draws one at admission.
    `logprobs` k returns the k best tokens and the sampled one. Penalties follow OpenAI
    (presence, frequency: over the output) and CTRL (repetition: over prompt and output).
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    include_stop_str_in_output: bool = False
    min_tokens: int = 0
    max_tokens: int | None = 16
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] = {}
    skip_special_tokens: bool = True

    def validate(self, vocab_size: int) -> None:
        """Check every range. Raises RequestError, whose `param` names the field."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise RequestError(
                    f"{name} is {value}, but must be in [{low}, {high}]",
                    f"leave {name} out for its default",
                    param=name,
                )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}",
                "lower min_tokens",
                param="min_tokens",
            )
        self._validate_lists(vocab_size)

    def _validate_lists(self, vocab_size: int) -> None:
        if len(self.stop) > MAX_STOP_STRINGS or any(not s or len(s) > 1024 for s in self.stop):
            raise RequestError(
                f"stop takes up to {MAX_STOP_STRINGS} strings of 1 to 1024 characters",
                "shorten the list",
                param="stop",
            )
        if len(self.stop_token_ids) > 128 or len(self.logit_bias) > 1024:
            name = "stop_token_ids" if len(self.stop_token_ids) > 128 else "logit_bias"
            raise RequestError(f"{name} has too many entries", "shorten the list", param=name)
        for name, ids in (
            ("stop_token_ids", list(self.stop_token_ids)),
            ("logit_bias", list(self.logit_bias)),
        ):
            bad = [i for i in ids if not 0 <= i < vocab_size]
            if bad:
                raise RequestError(
                    f"{name} names token {bad[0]}, outside the vocabulary of {vocab_size}",
                    "use ids from /tokenize",
                    param=name,
                )
        if any(not (math.isfinite(b) and -100 <= b <= 100) for b in self.logit_bias.values()):
            raise RequestError(
                "logit_bias values must be in [-100, 100]", "clamp them", param="logit_bias"
            )


_RANGES: dict[str, tuple[float, float]] = {
    "n": (1, MAX_N),
    "temperature": (0.0, 100.0),
    "top_p": (1e-9, 1.0),
    "top_k": (-1, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (1e-3, 100.0),
    "seed": (-(2**63), 2**63 - 1),
    "min_tokens": (0, 2**31 - 1),
    "max_tokens": (1, 2**31 - 1),
    "logprobs": (0, MAX_LOGPROBS),
    "prompt_logprobs": (0, MAX_LOGPROBS),
}


class EngineRequest(msgspec.Struct, kw_only=True):
    """One sequence to generate: what the engine takes (n > 1 is split before it gets here).

    Times are seconds on the caller's monotonic clock. `deadline` is absolute on that clock.
    Lower `priority` runs first (vLLM's order). `cache_salt` parts tenants' prefix caches.
    """

    request_id: str
    prompt_token_ids: list[int]
    params: SamplingParams
    arrival_time: float = 0.0
    priority: int = 0
    cache_salt: str = ""
    deadline: float | None = None


class Logprob(msgspec.Struct, frozen=True):
    """One candidate token with its natural-log probability and its rank (1 is the best)."""

    token_id: int
    logprob: float
    rank: int


class Timings(msgspec.Struct, kw_only=True):
    """Where a request's time went. Seconds, but for the two counters."""

    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    cached_tokens: int = 0
    preemptions: int = 0


class RequestDelta(msgspec.Struct, kw_only=True):
    """What one engine step adds to one request. The last one has `finish_reason` set.

    `text` holds only whole characters and never a part of a stop string. `logprobs` has one
    list per new token: the sampled token first, then the best ones in order.
    `prompt_logprobs` comes once, with the first delta (entry 0 is None).
    """

    request_id: str
    token_ids: list[int] = []
    text: str = ""
    logprobs: list[list[Logprob]] | None = None
    prompt_logprobs: list[list[Logprob] | None] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None
    timings: Timings | None = None


class CompletionOutput(msgspec.Struct, kw_only=True):
    """One finished sequence of a request (vLLM's CompletionOutput)."""

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[list[Logprob]] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    timings: Timings | None = None


class RequestOutput(msgspec.Struct, kw_only=True):
    """A finished request of `LLM.generate` (vLLM's RequestOutput)."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[list[Logprob] | None] | None = None
    finished: bool = True


ChatMessage = dict[str, Any]
