"""Seeded lengths and contents: what every workload draws from.

Contents are units: token ids, or indexes of words that `text_of` writes out. Lengths are given in
tokens throughout; without a tokenizer, text takes TOKENS_PER_WORD tokens for a word.
Not here: the shapes of workloads (synthetic, files, traces).
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.workloads.words import WORDS

TOKENS_PER_WORD = 1.3
"""About what tokenizers make of an English word."""
MAX_LENGTH = 1 << 22
"""Tokens of one draw: a longer one is a mistake, not a workload."""

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Units = tuple[int, ...]
Config = TypeVar("Config", bound=msgspec.Struct)


class Length(msgspec.Struct, frozen=True):
    """How a length in tokens is drawn; never less than 1. Written `512`, `100-900` or `512~1.5`.

    Raises ConfigError on impossible values.
    """

    kind: Literal["fixed", "uniform", "lognormal"]
    a: float
    """fixed: the length; uniform: the least; lognormal: the mean."""
    b: float = 0.0
    """uniform: the greatest, included; lognormal: coefficient of variation."""

    def __post_init__(self) -> None:
        good = 1 <= self.a <= MAX_LENGTH and 0 <= self.b <= MAX_LENGTH
        if self.kind == "uniform":
            good = good and self.a <= self.b
        if not good:
            raise ConfigError(f"impossible length: {self}", f"lengths are 1 to {MAX_LENGTH} tokens")

    def __str__(self) -> str:
        joint = {"fixed": "", "uniform": "-", "lognormal": "~"}[self.kind]
        return f"{self.a:g}" + (f"{joint}{self.b:g}" if joint else "")


def fixed(length: int) -> Length:
    """Always this many tokens."""
    return Length("fixed", length)


def parse_length(text: str) -> Length:
    """`512`: fixed; `100-900`: uniform; `512~1.5`: lognormal of mean 512 and CV 1.5.

    Raises ConfigError on any other form.
    """
    try:
        if "~" in text:
            mean, cv = text.split("~")
            return Length("lognormal", float(mean), float(cv))
        if "-" in text:
            low, high = text.split("-")
            return Length("uniform", int(low), int(high))
        return fixed(int(text))
    except (ValueError, OverflowError):
        hint = "write 512 (fixed), 100-900 (uniform) or 512~1.5 (lognormal: mean~CV)"
        raise ConfigError(f"not a length: {text[:40]!r}", hint) from None


def draw_length(length: Length, rng: Random, ratio: float = 0.0) -> int:
    """Tokens, from 1 to MAX_LENGTH. `ratio`: a fixed length n becomes uniform n(1-r) to n(1+r)."""
    match length.kind:
        case "fixed":
            low, high = math.floor(length.a * (1 - ratio)), math.ceil(length.a * (1 + ratio))
            drawn = rng.randint(low, high) if ratio else round(length.a)
        case "uniform":
            drawn = rng.randint(round(length.a), round(length.b))
        case "lognormal":
            variance = math.log1p(length.b**2)
            mu = math.log(length.a) - variance / 2
            exponent = min(rng.gauss(mu, math.sqrt(variance)), math.log(MAX_LENGTH))
            drawn = round(math.exp(exponent))
    return min(max(1, drawn), MAX_LENGTH)


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What prompts are made of. Raises ConfigError for an empty range of ids."""

    text: bool = False
    """Words in place of token ids, about 1.3 tokens each."""
    low: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] = 1000
    """Least token id."""
    high: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)] = 20000
    """One more than the greatest token id: at most the model's vocabulary."""

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ConfigError(
                f"no token id from low={self.low} to below high={self.high}", "raise high"
            )


def stream(*key: object) -> Random:
    """A generator of its own for each key: (seed, what it is for, which one)."""
    return Random("/".join(map(str, key)))


def units(content: Content, tokens: int) -> int:
    """How many units stand for so many tokens; at least 1, but none for none."""
    if not content.text:
        return tokens
    return max(1, round(tokens / TOKENS_PER_WORD)) if tokens else 0


def draw_units(content: Content, rng: Random, count: int) -> Units:
    """So many units, evenly drawn."""
    ids = range(len(WORDS)) if content.text else range(content.low, content.high)
    return tuple(rng.choices(ids, k=count))


def draw(content: Content, rng: Random, tokens: int) -> Units:
    """Units that stand for so many tokens, evenly drawn."""
    return draw_units(content, rng, units(content, tokens))


def text_of(drawn: Sequence[int]) -> str:
    """Words, one blank between them."""
    return " ".join([WORDS[i] for i in drawn])


def make_turn(content: Content, drawn: Units, max_tokens: int, think_time: float = 0.0) -> Turn:
    """A turn that adds these units; `think_time` in seconds."""
    if content.text:
        return Turn(text=text_of(drawn), max_tokens=max_tokens, think_time=think_time)
    return Turn(token_ids=drawn, max_tokens=max_tokens, think_time=think_time)


def single(content: Content, drawn: Units, max_tokens: int) -> Session:
    """A session of one request."""
    return Session(turns=(make_turn(content, drawn, max_tokens),))


def checked(config: Config) -> Config:
    """The config, its values held to their bounds. Raises ConfigError for the first that is not.

    Constructors of frozen records check nothing themselves; every builder calls this first.
    """
    builtins: Any = msgspec.structs.asdict(config)
    for name, value in builtins.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, not {value}")
    try:
        msgspec.convert(msgspec.to_builtins(config), type(config))
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"workload: {error}", "see the list of workloads in --help") from None
    return config
