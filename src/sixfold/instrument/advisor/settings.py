"""What a server's settings say: its slots, its budgets, which strategies are on.

By each engine's own flag names, as it tells them itself or as the user says them (`--set`). A
setting that is not known is absent; defaults count only where they are this package's own or are
told by the engine. Not here: asking the server (endpoint.py).
"""

from collections.abc import Mapping
from typing import Any

from sixfold.instrument.advisor.signals import Reading, Readings
from sixfold.instrument.advisor.window import Setting

NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "slots": {
        "sixfold": ("max_num_seqs",),
        "vllm": ("max_num_seqs",),
        "sglang": ("max_running_requests",),
        "llamacpp": ("parallel", "np", "total_slots"),
    },
    "token_budget": {
        "sixfold": ("max_num_batched_tokens",),
        "vllm": ("max_num_batched_tokens",),
        "sglang": ("chunked_prefill_size",),
        "llamacpp": ("ubatch_size", "ub"),
    },
    "caching_on": {
        "sixfold": ("enable_prefix_caching",),
        "vllm": ("enable_prefix_caching",),
        "sglang": ("disable_radix_cache",),
        "llamacpp": ("cache_prompt",),
    },
}
"""Signal -> engine -> flags, the first that is set counts."""
NEGATED = ("disable_radix_cache",)
OURS: Mapping[str, Setting] = {
    "max_num_seqs": 64,
    "max_num_batched_tokens": 512,
    "enable_prefix_caching": True,
    "batching": "continuous",
}
"""Our own engine's defaults; a test holds them to EngineConfig."""
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")


def complete(engine: str, flags: Mapping[str, Setting]) -> dict[str, Setting]:
    """Flags of a server that was started with these and no others: with our defaults, if ours."""
    plain = {name.replace("-", "_"): value for name, value in flags.items()}
    return {**OURS, **plain} if engine == "sixfold" else plain


def of_settings(engine: str, settings: Mapping[str, Any]) -> Readings:
    """Signals of the settings."""
    plain = {name.replace("-", "_"): value for name, value in settings.items()}
    found: dict[str, float] = {}
    for signal, by_engine in NAMES.items():
        value = next((plain[name] for name in by_engine.get(engine, ()) if name in plain), None)
        number = _number(value)
        if number is None:
            continue
        name = next(name for name in by_engine[engine] if name in plain)
        found[signal] = 1.0 - number if name in NEGATED else number
    if (batching := plain.get("batching")) is not None:
        found["static_batching"] = float(str(batching) == "static")
    elif engine in ("vllm", "sglang", "llamacpp"):
        found["static_batching"] = 0.0
    return {name: Reading(value, "set", "the server's settings") for name, value in found.items()}


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    text = str(value).strip().lower()
    if text in TRUE:
        return 1.0
    if text in FALSE:
        return 0.0
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number >= 0 else None
