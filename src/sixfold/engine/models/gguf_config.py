"""GGUF metadata -> ModelConfig, with the tensors' shapes and kinds where metadata is silent.

Does not read weights, but for Llama 3's few rotary factors, which GGUF keeps as a tensor.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import ModelConfig, RopeConfig
from sixfold.core.errors import ModelError
from sixfold.engine.models.config_check import (
    ARCHITECTURES,
    MAX_CONTEXT,
    MAX_LAYERS,
    MAX_VOCAB,
    Fields,
    check_config,
    llama3_rope,
)
from sixfold.engine.models.dequant import KINDS_4BIT, KINDS_8BIT
from sixfold.engine.models.gguf import GGUFFile
from sixfold.engine.models.tensors import StoredTensor

ROPE_FREQS = "rope_freqs.weight"
_GEMMA_27B_LAYERS = 62
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def read_gguf_config(gguf: GGUFFile) -> ModelConfig:
    """The model in a GGUF file. Raises ModelError: unknown architecture, impossible numbers."""
    architecture = Fields(gguf.metadata, gguf.path.name).get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"the architecture {str(architecture)[:80]!r} is not supported",
            f"this build runs GGUF files of: {', '.join(ARCHITECTURES)}",
        )
    keys = _keys(gguf, architecture)
    keys.refuse("expert_count", "attn_logit_softcapping", "final_logit_softcapping")
    vocab_size = _vocab_size(gguf)
    tokens = Fields(_keys(gguf, "tokenizer.ggml").values, f"{gguf.path.name}: tokenizer.ggml")
    eos = [i for key in _END_KEYS for i in tokens.token_ids(key, vocab_size)]
    bos = tokens.token_ids("bos_token_id", vocab_size)
    shape = _shape(keys)
    gemma = architecture == "gemma3"
    name = gguf.metadata.get("general.name")
    return check_config(
        ModelConfig(
            architecture=architecture,
            **shape,
            **_attention(gguf, keys, shape),
            vocab_size=vocab_size,
            max_position_embeddings=keys.integer("context_length", 1, MAX_CONTEXT),
            rms_norm_eps=keys.number("attention.layer_norm_rms_epsilon", 1e-12, 1),
            tie_word_embeddings="output.weight" not in gguf.tensors,
            attention_bias="blk.0.attn_q.bias" in gguf.tensors,
            # Neither llama.cpp nor transformers in float32 rounds it.
            embedding_scale=shape["hidden_size"] ** 0.5 if gemma else 1.0,
            eos_token_ids=tuple(dict.fromkeys(eos)),
            bos_token_id=bos[0] if bos else None,
            default_dtype=_default_dtype(gguf),
            name=name if isinstance(name, str) else gguf.path.stem,
        )
    )


def _keys(gguf: GGUFFile, prefix: str) -> Fields:
    """The metadata under one prefix, without it."""
    start = prefix + "."
    found = {k.removeprefix(start): v for k, v in gguf.metadata.items() if k.startswith(start)}
    return Fields(found, f"{gguf.path.name}: {prefix}")


def _vocab_size(gguf: GGUFFile) -> int:
    """Rows of the embedding table: what the vocabulary really is, padding included."""
    table = gguf.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2 or table.shape[0] > MAX_VOCAB:
        raise ModelError(
            "the file has no usable tensor token_embd.weight", "it is no language model, or damaged"
        )
    return table.shape[0]


def _shape(keys: Fields) -> dict[str, Any]:
    hidden = keys.integer("embedding_length", 1, 1 << 17)
    heads = keys.integer("attention.head_count", 1, 1024)
    head_dim = keys.integer("attention.key_length", 2, 1024, max(2, hidden // heads))
    if keys.integer("attention.value_length", 2, 1024, head_dim) != head_dim:
        raise keys.error("attention.value_length", f"the key length, {head_dim}")
    if keys.integer("rope.dimension_count", 2, 1024, head_dim) != head_dim:
        raise keys.error("rope.dimension_count", f"the head size, {head_dim}")
    return {
        "hidden_size": hidden,
        "num_layers": keys.integer("block_count", 1, MAX_LAYERS),
        "num_heads": heads,
        "num_kv_heads": keys.integer("attention.head_count_kv", 1, heads, heads),
        "head_dim": head_dim,
        "ffn_size": keys.integer("feed_forward_length", 1, 1 << 20),
    }


def _attention(gguf: GGUFFile, keys: Fields, shape: dict[str, Any]) -> dict[str, Any]:
    """Rotary embedding, windows and scale."""
    rope = _rope(gguf, keys, shape["head_dim"])
    if gguf.metadata["general.architecture"] != "gemma3":
        return {"rope": rope}
    layers = shape["num_layers"]
    # Every Gemma 3 scales by 1 / sqrt(head size) but the 27B, whose query_pre_attn_scalar is
    # hidden size / heads; GGUF has no key for it (llama.cpp tells the 27B by its layers, too).
    scalar = shape["head_dim"]
    if layers == _GEMMA_27B_LAYERS:
        scalar = shape["hidden_size"] // shape["num_heads"]
    out: dict[str, Any] = {"rope": rope, "attention_scale": scalar**-0.5}
    window = keys.integer("attention.sliding_window", 0, MAX_CONTEXT, 0)
    if window:
        out |= {
            "sliding_window": window,
            "sliding_layers": _sliding_layers(gguf, keys, layers),
            "rope_local": RopeConfig(theta=keys.number("rope.freq_base_swa", 1, 1e12, 10000.0)),
        }
    return out


def _sliding_layers(gguf: GGUFFile, keys: Fields, num_layers: int) -> tuple[bool, ...]:
    """Gemma 3: a flag per layer where the file has them, else all but every sixth."""
    key = "attention.sliding_window_pattern"
    flags = keys.values.get(key)
    if isinstance(flags, np.ndarray):
        if len(flags) != num_layers:
            raise keys.error(key, f"an array of {num_layers}")
        return tuple(bool(f) for f in flags)
    every = keys.integer(key, 1, MAX_LAYERS, 6)
    return tuple((i + 1) % every != 0 for i in range(num_layers))


def _rope(gguf: GGUFFile, keys: Fields, head_dim: int) -> RopeConfig:
    theta = keys.number("rope.freq_base", 1, 1e12, 10000.0)
    kind = keys.choice("rope.scaling.type", ("none", "linear"), "none")
    factor = keys.number("rope.scaling.factor", 0, 1e6, keys.number("rope.scale_linear", 0, 1e6, 0))
    # llama.cpp reads 0 as 1, and a missing type as linear.
    linear = kind == "linear" or keys.get("rope.scaling.type") is None
    factor = factor if linear and factor else 1.0
    info = gguf.tensors.get(ROPE_FREQS)
    if info is None:
        return RopeConfig(theta=theta, linear_factor=factor)
    if info.shape != (head_dim // 2,) or info.kind != "f32" or factor != 1.0:
        raise ModelError(f"tensor {ROPE_FREQS} does not fit the model", "fetch the file again")
    factors = StoredTensor(gguf.reader, info.offset, info.name, info.shape, "f32").rows(
        0, head_dim // 2
    )
    original = keys.integer("rope.scaling.original_context_length", 1, MAX_CONTEXT, 8192)
    return rope_of_factors(factors, theta, original)


def rope_of_factors(factors: NDArray[np.float32], theta: float, original: int) -> RopeConfig:
    """Llama 3's scaling whose frequency divisors are `factors` [D/2]. Raises ModelError.

    The file has no key for the scaling's four numbers, but all Llama 3 models use bands 1 and 4,
    and the largest divisor is the factor: we compute the divisors from these and compare.
    """
    if bool((factors == 1).all()):
        return RopeConfig(theta=theta)
    factor = float(factors.max())
    if factor > 1:
        computed = _llama3_factors(len(factors), theta, factor, original)
        if np.allclose(computed, factors, rtol=1e-4):
            return llama3_rope(theta, factor, 1.0, 4.0, original)
    raise ModelError(
        f"the factors in {ROPE_FREQS} are not those of Llama 3's scaling",
        "use the model's safetensors, whose config.json states the scaling",
    )


def _llama3_factors(half: int, theta: float, factor: float, original: int) -> NDArray[np.float64]:
    """Divisors of the `half` frequencies. Source: Meta's llama-models, apply_scaling."""
    wavelength = 2 * np.pi * theta ** (np.arange(half) / half)
    smooth = np.clip((original / wavelength - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    divisors: NDArray[np.float64] = 1 / ((1 - smooth) / factor + smooth)
    return divisors


def _default_dtype(gguf: GGUFFile) -> str:
    """int4 or int8 where most layer weights are in such kinds, else bf16."""
    sizes: Counter[str] = Counter()
    for info in gguf.tensors.values():
        if info.name.startswith("blk.") and len(info.shape) == 2:
            kind = info.kind
            dtype = "int4" if kind in KINDS_4BIT else "int8" if kind in KINDS_8BIT else "bf16"
            sizes[dtype] += info.shape[0] * info.shape[1]
    return sizes.most_common(1)[0][0] if sizes else "bf16"
