"""config.json and generation_config.json of a Hugging Face directory -> ModelConfig.

Does not read weights or tokenizers, and never runs code that a repository brings (`auto_map` is
not looked at). Defaults are transformers' own where a key is left out.
"""

from pathlib import Path
from typing import Any

from sixfold.core.config import ModelConfig, RopeConfig
from sixfold.core.errors import ModelError
from sixfold.engine.models.config_check import (
    MAX_CONTEXT,
    MAX_LAYERS,
    MAX_VOCAB,
    Fields,
    check_config,
    llama3_rope,
)
from sixfold.engine.models.json_file import read_json

MAX_CONFIG = 1 << 24

_KNOWN = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma3ForCausalLM": "gemma3",
    "Gemma3ForConditionalGeneration": "gemma3",
}
_MODEL_TYPES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3",
    "gemma3_text": "gemma3",
}  # fmt: skip
# transformers' defaults for keys that configurations on the hub leave out.
_CONTEXT = {"llama": 2048, "qwen2": 32768, "qwen3": 32768, "gemma3": 131072}
_GEMMA = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}


def read_hf_config(directory: Path) -> ModelConfig:
    """The model that `directory`/config.json describes. Raises ModelError."""
    config = read_json(directory / "config.json", MAX_CONFIG)
    generation: dict[str, Any] = {}
    if (directory / "generation_config.json").is_file():
        generation = read_json(directory / "generation_config.json", MAX_CONFIG)
    return parse_hf_config(config, generation, directory.name)


def parse_hf_config(
    config: dict[str, Any], generation: dict[str, Any], name: str = ""
) -> ModelConfig:
    """ModelConfig of a config.json (and a generation_config.json, or {}). Raises ModelError."""
    architecture = _architecture(config)
    outer = Fields(config, "config.json")
    outer.refuse("quantization_config", "compression_config")
    text = outer.inner("text_config") if "text_config" in config else outer
    text.refuse("quantization_config", "compression_config")
    _refuse_variants(text, architecture)
    gemma = architecture == "gemma3"
    vocab_size = text.integer("vocab_size", 1, MAX_VOCAB, 262208 if gemma else None)
    eos = (
        *Fields(generation, "generation_config.json").token_ids("eos_token_id", vocab_size),
        *outer.token_ids("eos_token_id", vocab_size),
        *text.token_ids("eos_token_id", vocab_size),
    )
    if not eos and gemma:
        eos = (1,)
    bos = text.token_ids("bos_token_id", vocab_size) or outer.token_ids("bos_token_id", vocab_size)
    shape = _shape(text, architecture)
    tie = outer.flag("tie_word_embeddings", text.flag("tie_word_embeddings", gemma))
    return check_config(
        ModelConfig(
            architecture=architecture,
            **shape,
            **_attention(text, architecture, shape["num_layers"]),
            vocab_size=vocab_size,
            max_position_embeddings=text.integer(
                "max_position_embeddings", 1, MAX_CONTEXT, _CONTEXT[architecture]
            ),
            rms_norm_eps=text.number("rms_norm_eps", 1e-12, 1, 1e-6),
            tie_word_embeddings=tie,
            attention_bias=architecture == "qwen2",
            # transformers rounds it to the weights' dtype; in float32, as here, that is nothing.
            embedding_scale=shape["hidden_size"] ** 0.5 if gemma else 1.0,
            eos_token_ids=tuple(dict.fromkeys(eos)),
            bos_token_id=bos[0] if bos else None,
            default_dtype="bf16",
            name=name,
        )
    )


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    known = ", ".join(_KNOWN)
    if names is None:
        model_type = config.get("model_type")
        if isinstance(model_type, str) and model_type in _MODEL_TYPES:
            return _MODEL_TYPES[model_type]
        raise ModelError("config.json names no architecture", f"this build runs: {known}")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        if names[0] in _KNOWN:
            return _KNOWN[names[0]]
        raise ModelError(
            f"the architecture {names[0][:80]!r} is not supported", f"this build runs: {known}"
        )
    raise ModelError("config.json: architectures is no list of one name", f"known are: {known}")


def _refuse_variants(text: Fields, architecture: str) -> None:
    """Raise ModelError for what changes the mathematics and is not built."""
    text.refuse("attention_bias", "mlp_bias", "use_bidirectional_attention", "rope_interleaved")
    text.refuse("attn_logit_softcapping", "final_logit_softcapping", "num_local_experts")
    if text.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise text.error("partial_rotary_factor", "1")
    if architecture == "gemma3":
        text.choice("hidden_activation", ("gelu_pytorch_tanh",), "gelu_pytorch_tanh")
    else:
        text.choice("hidden_act", ("silu",), "silu")


def _shape(text: Fields, architecture: str) -> dict[str, Any]:
    defaults = _GEMMA if architecture == "gemma3" else {}
    hidden = text.integer("hidden_size", 1, 1 << 17)
    heads = text.integer("num_attention_heads", 1, 1024, defaults.get("num_attention_heads"))
    split = max(1, hidden // heads)
    head_dim = 128 if architecture == "qwen3" else defaults.get("head_dim", split)
    return {
        "hidden_size": hidden,
        "num_layers": text.integer("num_hidden_layers", 1, MAX_LAYERS),
        "num_heads": heads,
        "num_kv_heads": text.integer(
            "num_key_value_heads", 1, heads, defaults.get("num_key_value_heads", heads)
        ),
        "head_dim": text.integer("head_dim", 2, 1024, head_dim),
        "ffn_size": text.integer("intermediate_size", 1, 1 << 20),
    }


def _attention(text: Fields, architecture: str, num_layers: int) -> dict[str, Any]:
    """Rotary embedding, windows and scale."""
    if architecture != "gemma3":
        sliding, window = _qwen_layers(text, num_layers), None
        if any(sliding):
            window = text.integer("sliding_window", 1, MAX_CONTEXT, 4096)
        rope = _rope(_rope_fields(text), text.number("rope_theta", 1, 1e12, 10000.0))
        return {"rope": rope, "sliding_layers": sliding, "sliding_window": window}
    params = text.inner("rope_parameters")
    nested = "full_attention" in params.values or "sliding_attention" in params.values
    full = params.inner("full_attention") if nested else _rope_fields(text)
    local = params.inner("sliding_attention")
    local.choice("rope_type", ("default",), "default")  # no scaling is defined for windows
    local_theta = text.number("rope_local_base_freq", 1, 1e12, 10000.0)
    scalar = text.number("query_pre_attn_scalar", 1e-3, 1e6, 256.0)
    return {
        "rope": _rope(full, text.number("rope_theta", 1, 1e12, 1e6)),
        "rope_local": RopeConfig(theta=local.number("rope_theta", 1, 1e12, local_theta)),
        "sliding_layers": _gemma_layers(text, num_layers),
        "sliding_window": text.integer("sliding_window", 1, MAX_CONTEXT, 4096),
        "attention_scale": scalar**-0.5,
    }


def _rope_fields(text: Fields) -> Fields:
    """The flat scaling record: `rope_parameters` (transformers 5) or `rope_scaling`."""
    params = text.inner("rope_parameters")
    return params if params.values else text.inner("rope_scaling")


def _rope(params: Fields, theta: float) -> RopeConfig:
    theta = params.number("rope_theta", 1, 1e12, theta)
    key = "type" if params.get("rope_type") is None else "rope_type"
    kind = params.choice(key, ("default", "linear", "llama3"), "default")
    if params.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise params.error("partial_rotary_factor", "1")
    if kind == "default":
        return RopeConfig(theta=theta)
    factor = params.number("factor", 1, 1e6)
    if kind == "linear":
        return RopeConfig(theta=theta, linear_factor=factor)
    low = params.number("low_freq_factor", 1e-6, 1e6)
    high = params.number("high_freq_factor", 1e-6, 1e6)
    original = params.integer("original_max_position_embeddings", 1, MAX_CONTEXT)
    return llama3_rope(theta, factor, low, high, original)


def _layer_types(text: Fields, num_layers: int) -> tuple[bool, ...] | None:
    types = text.get("layer_types")
    if types is None:
        return None
    known = ("sliding_attention", "full_attention")
    if not isinstance(types, list) or any(t not in known for t in types):
        raise text.error("layer_types", f"a list of {' and '.join(known)}")
    if len(types) != num_layers:
        raise text.error("layer_types", f"a list of {num_layers}")
    return tuple(t == "sliding_attention" for t in types)


def _qwen_layers(text: Fields, num_layers: int) -> tuple[bool, ...]:
    """Sliding layers of Qwen: none unless `use_sliding_window` says so."""
    if not text.flag("use_sliding_window", False):
        return ()
    first = text.integer("max_window_layers", 0, MAX_LAYERS, 28)
    types = _layer_types(text, num_layers)
    return tuple(i >= first for i in range(num_layers)) if types is None else types


def _gemma_layers(text: Fields, num_layers: int) -> tuple[bool, ...]:
    """Sliding layers of Gemma 3: all but every sixth, unless the file says otherwise."""
    every = text.integer("sliding_window_pattern", 1, MAX_LAYERS, 6)
    types = _layer_types(text, num_layers)
    return tuple((i + 1) % every != 0 for i in range(num_layers)) if types is None else types
