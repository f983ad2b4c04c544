"""What to try on each engine: the strategies' switches from the cards, and sizes that matter.

Data and its reading only. Lossy values are left out unless asked for. Not here: the order of
trying (search.py).
"""

from collections.abc import Mapping

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.spec import Scalar
from sixfold.strategies import CARDS

Values = tuple[Scalar, ...]

SIZES: Mapping[str, Mapping[str, Values]] = {
    "sixfold": {
        "max_num_seqs": (4, 8, 16, 32, 64),
        "max_num_batched_tokens": (64, 128, 256, 512, 1024),
    },
    "vllm": {
        "max_num_seqs": (16, 32, 64, 128, 256),
        "max_num_batched_tokens": (512, 1024, 2048, 4096, 8192),
    },
    "sglang": {
        "max_running_requests": (16, 32, 64, 128, 256),
        "chunked_prefill_size": (512, 1024, 2048, 4096, 8192),
    },
    "llamacpp": {
        "parallel": (4, 8, 16, 32, 64),
        "ubatch_size": (64, 128, 256, 512),
    },
}
"""Engine -> flag -> values, the smallest first."""

SWITCHED = ("static batching", "continuous batching", "prefix caching", "FlashAttention")
"""Cards whose switch belongs to one server; routers and parallel layouts are no server's flag."""

LOSSY: Mapping[str, Mapping[str, Values]] = {
    "sixfold": {"dtype": ("bf16", "int8", "int4")},
    "vllm": {"kv_cache_dtype": ("auto", "fp8")},
    "sglang": {"kv_cache_dtype": ("auto", "fp8_e5m2")},
    "llamacpp": {"cache_type_k": ("f16", "q8_0")},
}
"""Flags that change what the model says: only with consent and a quality check."""


def switches(engine: str) -> dict[str, Values]:
    """Flags that turn a lossless strategy on and off in an engine, as the cards name them."""
    found: dict[str, list[Scalar]] = {}
    for card in CARDS:
        knob = card.knobs.get(engine)
        if card.name not in SWITCHED or knob is None or knob.off is None:
            continue
        for switch in (knob.on, knob.off):
            for name, value in read_switch(switch):
                values = found.setdefault(name, [])
                if value not in values:
                    values.append(value)
    return {name: tuple(values) for name, values in found.items() if len(values) > 1}


def read_switch(switch: str) -> list[tuple[str, Scalar]]:
    """A card's switch: "--batching static" -> batching, static; "--no-x" -> x, False."""
    if not switch:
        return []
    name, _, value = switch.removeprefix("--").partition(" ")
    if value:
        return [(name.replace("-", "_"), value)]
    on = not name.startswith("no-")
    return [(name.removeprefix("no-").replace("-", "_"), on)]


def default_space(engine: str, lossy: bool = False) -> dict[str, Values]:
    """Flag -> values to try. Raises ConfigError for an engine without a space of its own."""
    if engine not in SIZES:
        raise ConfigError(
            f"nothing is known of what to try on {engine!r}",
            'say it: --space "max_num_seqs=[8,16];max_num_batched_tokens=[256,512]"',
        )
    chosen = dict(SIZES[engine]) | switches(engine)
    return chosen | dict(LOSSY[engine]) if lossy else chosen
