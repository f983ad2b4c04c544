"""Which tensors a model has, by our names, and what Hugging Face and GGUF files call them.

Reads no file. Shapes: E hidden, F ffn, V vocabulary, H query heads, KH KV heads, D head size.
"""

import re
from collections.abc import Iterable, Mapping

from sixfold.core.config import ModelConfig
from sixfold.core.errors import ModelError

_HF_TOP = {"embed": "embed_tokens", "final_norm": "norm"}
_HF_LAYER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_HF_GEMMA = _HF_LAYER | {
    "post_attn_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffn_norm": "post_feedforward_layernorm",
}
_GGUF_TOP = {"embed": "token_embd", "final_norm": "output_norm", "lm_head": "output"}
_GGUF_LAYER = {
    "attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
    "post_attn_norm": "post_attention_norm", "post_ffn_norm": "post_ffw_norm",
}  # fmt: skip

_HF_HEADS = {
    "model.": "", "language_model.model.": "language_model.", "model.language_model.": "", "": "",
}  # fmt: skip
"""What stands before a text model's names, and before its lm_head: alone, inside a multimodal
model (in two spellings), bare."""

_HARMLESS = re.compile(r"rotary_emb\.inv_freq$|^attn_rot_embd\.|^self_attn\.masked_bias$")
_LAYER = re.compile(r"^(?:blk|layers)\.(\d{1,6})\.(.+)$")


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model and its shape, by our names."""
    c = config
    q, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (c.hidden_size,),
        "q.weight": (q, c.hidden_size),
        "k.weight": (kv, c.hidden_size),
        "v.weight": (kv, c.hidden_size),
        "o.weight": (c.hidden_size, q),
        "ffn_norm.weight": (c.hidden_size,),
        "gate.weight": (c.ffn_size, c.hidden_size),
        "up.weight": (c.ffn_size, c.hidden_size),
        "down.weight": (c.hidden_size, c.ffn_size),
    }
    if c.attention_bias:
        layer |= {"q.bias": (q,), "k.bias": (kv,), "v.bias": (kv,)}
    if c.architecture in ("qwen3", "gemma3"):
        layer |= {"q_norm.weight": (c.head_dim,), "k_norm.weight": (c.head_dim,)}
    if c.architecture == "gemma3":
        layer |= {
            "post_attn_norm.weight": (c.hidden_size,),
            "post_ffn_norm.weight": (c.hidden_size,),
        }
    shapes: dict[str, tuple[int, ...]] = {
        "embed.weight": (c.vocab_size, c.hidden_size),
        "final_norm.weight": (c.hidden_size,),
    }
    if not c.tie_word_embeddings:
        shapes["lm_head.weight"] = (c.vocab_size, c.hidden_size)
    for i in range(c.num_layers):
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def gguf_name(name: str) -> str:
    """layers.3.q.weight -> blk.3.attn_q.weight."""
    stem, _, field = name.rpartition(".")
    if not stem.startswith("layers."):
        return f"{_GGUF_TOP[stem]}.{field}"
    _, index, part = stem.split(".")
    return f"blk.{index}.{_GGUF_LAYER[part]}.{field}"


def hf_name(name: str, architecture: str, prefix: str) -> str:
    """layers.3.q.weight -> model.layers.3.self_attn.q_proj.weight (prefix 'model.')."""
    stem, _, field = name.rpartition(".")
    if stem == "lm_head":  # beside the text model, not in it
        return f"{_HF_HEADS[prefix]}lm_head.{field}"
    if not stem.startswith("layers."):
        return f"{prefix}{_HF_TOP[stem]}.{field}"
    _, index, part = stem.split(".")
    names = _HF_GEMMA if architecture == "gemma3" else _HF_LAYER
    return f"{prefix}layers.{index}.{names[part]}.{field}"


def find_prefix(names: Iterable[str]) -> str:
    """The HF prefix of a checkpoint's text model. Raises ModelError if there is none."""
    have = set(names)
    for prefix in _HF_HEADS:
        if f"{prefix}embed_tokens.weight" in have:
            return prefix
    raise ModelError(
        "the checkpoint has no tensor model.embed_tokens.weight",
        "it is no text model in Hugging Face's layout, or a file is missing",
    )


def check_layers(names: Iterable[str], used: set[str], prefix: str, config: ModelConfig) -> None:
    """Refuse layer tensors that nothing uses: leaving one out would change what comes out."""
    for name in names:
        match = _LAYER.match(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if match is None or name in used or int(match[1]) >= config.num_layers:
            continue
        if not _HARMLESS.search(match[2]):
            raise ModelError(
                f"tensor {name} has no place in a {config.architecture} model of this build",
                "the model is a variant (MoE, extra biases, adapters, another quantisation) that "
                "is not supported",
            )


def check_shapes(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    stored_name: Mapping[str, str],
) -> None:
    """Raise ModelError naming the first tensor that is missing or has another shape."""
    for name, shape in expected.items():
        stored = stored_name[name]
        if stored not in found:
            raise ModelError(
                f"the model's files lack tensor {stored}", "a file is missing or damaged"
            )
        if found[stored] != shape:
            raise ModelError(
                f"tensor {stored} has shape {list(found[stored])}, but the configuration "
                f"says {list(shape)}",
                "configuration and weights are of different models",
            )
