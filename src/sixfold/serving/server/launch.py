"""How an engine process is started, and where the API process gets its tokenizer.

Values only: the supervisor does the starting. Tests pass a fake engine and a fake tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from sixfold.core.config import EngineConfig

DEFAULT_ENGINE = "sixfold.engine.engine:LLMEngine"
"""The engine class that the engine process builds."""


class ServerTokenizer(Protocol):
    """What the API process needs of a tokenizer (engine/models/tokenizer.py has the real one)."""

    vocab_size: int
    bos_token_id: int | None
    chat_template: str | None

    def encode(
        self, text: str, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Token ids of `text`."""
        ...

    def min_tokens(self, text: str) -> int:
        """A lower bound on len(encode(text)), at once: refuses huge prompts."""
        ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes that one token adds."""
        ...

    def apply_chat_template(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool = True, **kwargs: Any
    ) -> str:
        """The prompt that a conversation becomes."""
        ...


def load_model_tokenizer(config: EngineConfig) -> ServerTokenizer:
    """The tokenizer of the model that `config` names. Raises ModelError, NotFoundError."""
    from sixfold.engine.models.registry import resolve, sixfold_home
    from sixfold.engine.models.tokenizer import load_tokenizer

    tokenizer: ServerTokenizer = load_tokenizer(resolve(config.model, sixfold_home()))
    return tokenizer


class EngineLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between the real engine and a test's."""

    engine: str = DEFAULT_ENGINE
    """module:Class of the engine; anything but the default is for tests."""
    load_tokenizer: Callable[[EngineConfig], ServerTokenizer] = load_model_tokenizer
