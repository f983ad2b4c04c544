"""Reads configuration values that we do not trust: typed, bounded, and named in the error.

Shared by Hugging Face's config.json and GGUF metadata; knows the key names of neither.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from sixfold.core.config import ModelConfig, RopeConfig
from sixfold.core.errors import ModelError

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
MAX_LAYERS = 1024
MAX_VOCAB = 1 << 21
MAX_CONTEXT = 1 << 24
WIDTH_MULTIPLE = 32
"""Hidden, attention and feed-forward widths are multiples of it: one quantisation group."""

_WRONG = "the file is damaged, or of a model that this build does not run"


@dataclass(frozen=True, slots=True)
class Fields:
    """The keys of one mapping; `where` names it in errors."""

    values: Mapping[str, Any]
    where: str

    def get(self, key: str) -> Any:
        """The raw value, None if absent. A NumPy array of equal values counts as that value."""
        value = self.values.get(key)
        if isinstance(value, np.ndarray):
            if value.size and bool((value == value[0]).all()):
                return value[0].item()
            raise ModelError(f"{self.where}: {key} differs between layers", _WRONG)
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer in [low, high]; `default` where absent or null. Raises ModelError."""
        value = self.get(key)
        value = default if value is None else value
        if value is None:
            raise self._missing(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"an integer in [{low}, {high}]")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number in [low, high]; `default` where absent or null. Raises ModelError."""
        value = self.get(key)
        value = default if value is None else value
        if value is None:
            raise self._missing(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "a number")
        if not (low <= value <= high and math.isfinite(value)):
            raise self.error(key, f"in [{low:g}, {high:g}]")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false; `default` where absent or null. Raises ModelError."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def choice(self, key: str, known: Sequence[str], default: str) -> str:
        """One of the known words; `default` where absent or null. Raises ModelError."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in known:
            raise self.error(key, f"one of: {', '.join(known)}")
        return value

    def refuse(self, *keys: str) -> None:
        """Raise ModelError where one of the keys is switched on."""
        for key in keys:
            if self.get(key) not in (None, False, 0, 0.0):
                raise ModelError(
                    f"{self.where}: {key} is {_short(self.values[key])}: not in this build",
                    "choose another model",
                )

    def inner(self, key: str) -> "Fields":
        """The mapping under `key`; empty where absent or null. Raises ModelError."""
        value = self.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.error(key, "an object")
        return Fields(value or {}, f"{self.where}: {key}")

    def token_ids(self, key: str, vocab_size: int) -> tuple[int, ...]:
        """One id or a list of ids, each in the vocabulary; () where absent. Raises ModelError."""
        value = self.values.get(key)
        ids = [] if value is None else value if isinstance(value, list) else [value]
        if len(ids) > 64 or not all(type(i) is int and 0 <= i < vocab_size for i in ids):
            raise self.error(key, f"token ids in [0, {vocab_size})")
        return tuple(ids)

    def error(self, key: str, wanted: str) -> ModelError:
        """What to raise where `key` is not what was `wanted`."""
        value = self.values.get(key)
        return ModelError(f"{self.where}: {key} is {_short(value)}, but must be {wanted}", _WRONG)

    def _missing(self, key: str) -> ModelError:
        return ModelError(f"{self.where} lacks {key}", _WRONG)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_config(config: ModelConfig) -> ModelConfig:
    """`config`, if its numbers fit each other and this build. Raises ModelError."""
    c = config
    widths = {
        "the hidden size": c.hidden_size,
        "heads x head size": c.num_heads * c.head_dim,
        "the feed-forward size": c.ffn_size,
    }
    wrong = [f"{name} is {v}" for name, v in widths.items() if v % WIDTH_MULTIPLE]
    if wrong:
        raise ModelError(
            f"{wrong[0]}, no multiple of {WIDTH_MULTIPLE}", "this build's kernels need that"
        )
    if c.num_heads % c.num_kv_heads:
        raise ModelError(f"{c.num_heads} heads cannot share {c.num_kv_heads} KV heads", _WRONG)
    if c.head_dim % 2:
        raise ModelError(f"the head size {c.head_dim} is odd: it cannot be rotated", _WRONG)
    if c.sliding_layers and len(c.sliding_layers) != c.num_layers:
        raise ModelError(
            f"{len(c.sliding_layers)} layer types are given for {c.num_layers} layers", _WRONG
        )
    if not any(c.sliding_layers):
        return msgspec.structs.replace(c, sliding_layers=(), sliding_window=None, rope_local=None)
    if c.sliding_window is None:
        raise ModelError("layers slide, but no sliding_window is given", _WRONG)
    return c


def llama3_rope(theta: float, factor: float, low: float, high: float, original: int) -> RopeConfig:
    """Llama 3's scaling, if its numbers make sense. Raises ModelError."""
    if not low < high:
        raise ModelError(f"rope scaling: low_freq_factor {low} is not below {high}", _WRONG)
    return RopeConfig(theta=theta, llama3=(factor, low, high, original))
