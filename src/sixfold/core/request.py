"""What a user asks for and what comes back: the records that every room passes on.

Field names and defaults are vLLM's, so that code written for it carries over.
"""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, Literal

import msgspec

from sixfold.core.errors import RequestError

Pooling = Literal["mean", "last"]
FinishReason = Literal["stop", "length", "abort", "error", "deadline"]

MAX_LOGPROBS = 64
MAX_STOP_STRINGS = 32
MAX_N = 128
MAX_SEED = 2**63 - 1


class SamplingParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How tokens are chosen. Construct it, then call `validate` before it reaches an engine.

    `temperature` 0 is greedy. `top_k` 0 or -1 means all. `seed` None draws one at admission.
    `logprobs` k returns the k best tokens and the sampled one. `stop` is a string or a list of
    them, and a list when read back. Penalties follow OpenAI (presence, frequency: over the output)
    and CTRL (repetition: over prompt and output).
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
    stop: str | list[str] = []
    stop_token_ids: list[int] = []
    include_stop_str_in_output: bool = False
    min_tokens: int = 0
    max_tokens: int | None = 16
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] = {}
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            # A string is a sequence of strings too: each character would stop the text.
            msgspec.structs.force_setattr(self, "stop", [self.stop])

    def validate(self, vocab_size: int) -> None:
        """Check every type and range. Raises RequestError, whose `param` names the field."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_NONE:
                continue
            if not _is_within(value, low, high):
                kind = "an integer " if isinstance(low, int) else ""
                raise RequestError(
                    f"{name} is {_shown(value)}, but must be {kind}in [{low}, {high}]",
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
        if len(self.stop) > MAX_STOP_STRINGS or not all(map(_is_stop_string, self.stop)):
            raise RequestError(
                f"stop takes up to {MAX_STOP_STRINGS} strings of 1 to 1024 characters",
                "shorten the list",
                param="stop",
            )
        if len(self.stop_token_ids) > 128 or len(self.logit_bias) > 1024:
            name = "stop_token_ids" if len(self.stop_token_ids) > 128 else "logit_bias"
            raise RequestError(f"{name} has too many entries", "shorten the list", param=name)
        check_token_ids(self.stop_token_ids, vocab_size, "stop_token_ids")
        check_token_ids(self.logit_bias, vocab_size, "logit_bias")
        if not all(_is_within(bias, -100.0, 100.0) for bias in self.logit_bias.values()):
            raise RequestError(
                "logit_bias values must be in [-100, 100]", "clamp them", param="logit_bias"
            )


def split_seeds(params: SamplingParams) -> list[SamplingParams]:
    """One SamplingParams (n=1) per choice; a given seed counts up, so that choices differ.

    Behind the highest seed it goes on from 1: every seed that is legal for one choice is for n.
    """
    one = msgspec.structs.replace(params, n=1)
    seed = params.seed
    if seed is None:
        return [one] * params.n
    seeds = [seed + i if seed + i <= MAX_SEED else i for i in range(params.n)]
    return [msgspec.structs.replace(one, seed=each) for each in seeds]


def check_token_ids(ids: Iterable[int], vocab_size: int, param: str) -> None:
    """Raises RequestError for what is no int (a bool is none) or outside the vocabulary."""
    for token in ids:
        if not _is_integer(token) or not 0 <= token < vocab_size:
            raise RequestError(
                f"{param} names token {_shown(token)}; ids are integers below the vocabulary's "
                f"{vocab_size}",
                "use ids from /tokenize",
                param=param,
            )


def _is_within(value: Any, low: float, high: float) -> bool:
    """In [low, high], and an integer if `low` is one. NaN and what is no number are not."""
    if not (_is_integer(value) if isinstance(low, int) else _is_real(value)):
        return False
    # Compared as they are: an integer may be too large for a float.
    return bool(low <= value <= high)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    """Python's or NumPy's integers, but no bool."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def _is_stop_string(stop: object) -> bool:
    return isinstance(stop, str) and 1 <= len(stop) <= 1024


def _shown(value: object) -> str:
    """For messages; Python refuses to print integers of thousands of digits."""
    if isinstance(value, int) and abs(value) >= 1 << 128:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)[:64]


_MAY_BE_NONE = ("seed", "max_tokens", "logprobs", "prompt_logprobs")

_RANGES: dict[str, tuple[float, float]] = {
    "n": (1, MAX_N),
    "temperature": (0.0, 100.0),
    "top_p": (1e-9, 1.0),
    "top_k": (-1, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (1e-3, 100.0),
    "seed": (-(2**63), MAX_SEED),
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
    pooling: Pooling | None = None
    """Not to generate: the prompt's hidden states are wanted as one vector, and end it."""
    backfill: bool = False
    """Offline work: it runs in what interactive requests leave, and yields to them at once."""


class Logprob(msgspec.Struct, frozen=True):
    """One candidate token with its natural-log probability and its rank (1 is the best)."""

    token_id: int
    logprob: float
    rank: int


class Timings(msgspec.Struct, kw_only=True):
    """Where a request's time went. Seconds, but for the two counters.

    `parts` add up to the whole time, those of `first_token` to the time to the first token: see
    engine/attribution.py for their names.
    """

    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    cached_tokens: int = 0
    preemptions: int = 0
    parts: dict[str, float] = {}
    first_token: dict[str, float] = {}


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
    embedding: bytes | None = None
    """With `pooling`, the vector: float32, little-endian, of length 1."""


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
