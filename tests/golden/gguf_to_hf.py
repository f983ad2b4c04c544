"""Read a GGUF file into a transformers model, by the ``gguf`` package's own dequantiser.

Knows the ``llama`` and ``gemma3`` architectures. Two things differ between the two worlds: GGUF
interleaves the rotary pairs of Llama's q and k rows (Hugging Face keeps them as two halves), and
GGUF stores Gemma's norm weights with their one added.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, PreTrainedConfig

LLAMA_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA_NAMES = LLAMA_NAMES | {
    "ffn_norm": "pre_feedforward_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
TOP_NAMES = {"token_embd": "embed_tokens", "output_norm": "norm"}


def fields_of(reader: GGUFReader) -> dict[str, Any]:
    """The metadata, with the architecture's prefix cut off its keys."""
    fields = {key: field.contents() for key, field in reader.fields.items()}
    prefix = fields["general.architecture"] + "."
    return {key.removeprefix(prefix): value for key, value in fields.items()}


def config_of(fields: dict[str, Any], tied: bool) -> PreTrainedConfig:
    """The transformers config that the metadata describe."""
    heads = fields["attention.head_count"]
    common = {
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": fields["embedding_length"],
        "intermediate_size": fields["feed_forward_length"],
        "num_hidden_layers": fields["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields["attention.head_count_kv"],
        "head_dim": fields.get("attention.key_length", fields["embedding_length"] // heads),
        "max_position_embeddings": fields["context_length"],
        "rms_norm_eps": fields["attention.layer_norm_rms_epsilon"],
        "tie_word_embeddings": tied,
    }
    theta = float(fields["rope.freq_base"])
    if fields["general.architecture"] == "llama":
        rope = {"rope_type": "default", "rope_theta": theta}
        return LlamaConfig(**common, rope_parameters=rope)
    # llama.cpp fixes the rest for gemma3: every sixth layer is global, local layers use base 10000.
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": theta},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    return Gemma3TextConfig(
        **common,
        rope_parameters=rope,
        sliding_window=fields["attention.sliding_window"],
        query_pre_attn_scalar=common["head_dim"],
    )


def halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k with interleaved rotary pairs -> rows with two halves."""
    rows, width = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(rows, width)


def state_of(reader: GGUFReader, config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """Every weight, float32, under its transformers name."""
    gemma = isinstance(config, Gemma3TextConfig)
    names = GEMMA_NAMES if gemma else LLAMA_NAMES
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        parts = tensor.name.split(".")
        if gemma and parts[-2].endswith("norm"):
            weight = weight - np.float32(1)
        if not gemma and parts[-2] in ("attn_q", "attn_k"):
            query = parts[-2] == "attn_q"
            heads = config.num_attention_heads if query else config.num_key_value_heads
            weight = halves(weight, heads)
        if parts[0] == "blk":
            name = f"model.layers.{parts[1]}.{names[parts[2]]}.weight"
        elif parts[0] == "output":
            name = "lm_head.weight"
        else:
            name = f"model.{TOP_NAMES[parts[0]]}.weight"
        state[name] = torch.from_numpy(np.ascontiguousarray(weight))
    return state


def load(path: Path, dtype: torch.dtype) -> torch.nn.Module:
    """The model in ``path``, dequantised to float32 and then rounded to ``dtype``."""
    reader = GGUFReader(path)
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    config = config_of(fields_of(reader), tied)
    state = state_of(reader, config)
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    model.load_state_dict(state, strict=True)  # copies with rounding to the model's dtype
    for name, buffer in model.named_buffers():
        assert "inv_freq" not in name or buffer.dtype == torch.float32, name
    return model
