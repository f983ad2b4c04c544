"""Tiny models on disk, for tests: Hugging Face checkpoints rewritten as GGUF, and the reverse."""

import json
from pathlib import Path
from typing import Any

from engine.models.gguf_writer import Tensor, f32_tensor, gguf_bytes, random_tensor
from sixfold.core.config import ModelConfig

GOLDEN = Path(__file__).parents[2] / "golden"
TINY = GOLDEN / "tiny"

_GGUF = {
    "embed": "token_embd", "final_norm": "output_norm", "lm_head": "output", "o": "attn_output",
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "gate": "ffn_gate", "up": "ffn_up",
    "down": "ffn_down", "attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm", "post_attn_norm": "post_attention_norm",
    "post_ffn_norm": "post_ffw_norm",
}  # fmt: skip


def converted(config: ModelConfig, tensors: Any) -> tuple[dict[str, Any], list[Tensor]]:
    """A checkpoint as the converter of llama.cpp would write it: metadata and F32 tensors."""
    c, a = config, config.architecture
    metadata: dict[str, Any] = {
        "general.architecture": a,
        f"{a}.block_count": c.num_layers,
        f"{a}.context_length": c.max_position_embeddings,
        f"{a}.embedding_length": c.hidden_size,
        f"{a}.feed_forward_length": c.ffn_size,
        f"{a}.attention.head_count": c.num_heads,
        f"{a}.attention.head_count_kv": c.num_kv_heads,
        f"{a}.attention.key_length": c.head_dim,
        f"{a}.attention.value_length": c.head_dim,
        f"{a}.attention.layer_norm_rms_epsilon": c.rms_norm_eps,
        f"{a}.rope.freq_base": c.rope.theta,
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(c.vocab_size)],
        "tokenizer.ggml.bos_token_id": c.bos_token_id,
        "tokenizer.ggml.eos_token_id": c.eos_token_ids[0],
    }
    if c.sliding_window:
        metadata[f"{a}.attention.sliding_window"] = c.sliding_window
        metadata[f"{a}.attention.sliding_window_pattern"] = list(c.sliding_layers)
    out = []
    for name, tensor in tensors.items():
        values = tensor.rows(0, tensor.shape[0])
        stem, _, field = name.rpartition(".")
        if a == "llama" and stem.endswith((".q", ".k")):
            heads = c.num_heads if stem.endswith(".q") else c.num_kv_heads
            halves = values.reshape(heads, 2, c.head_dim // 2, -1)
            values = halves.swapaxes(1, 2).reshape(values.shape)
        *layer, part = stem.removeprefix("layers.").split(".")
        stored = f"blk.{layer[0]}.{_GGUF[part]}" if layer else _GGUF[part]
        out.append(f32_tensor(f"{stored}.{field}", values))
    return metadata, out


def small_llama(kinds: dict[str, str] | None = None) -> tuple[dict[str, Any], list[Tensor]]:
    """A one-layer Llama of hidden size 256, each tensor in the kind asked for (else q8_0)."""
    metadata = {
        "general.architecture": "llama",
        "general.name": "small",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": 32,
        "llama.attention.value_length": 32,
        "llama.rope.dimension_count": 32,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(16)],
        "tokenizer.ggml.scores": [float(-i) for i in range(16)],
        "tokenizer.ggml.token_type": [1] * 16,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 3,
        "tokenizer.ggml.add_bos_token": True,
    }
    shapes = {
        "token_embd": (16, 256), "output_norm": (256,), "blk.0.attn_norm": (256,),
        "blk.0.ffn_norm": (256,), "blk.0.attn_q": (64, 256), "blk.0.attn_k": (32, 256),
        "blk.0.attn_v": (32, 256), "blk.0.attn_output": (256, 64), "blk.0.ffn_gate": (64, 256),
        "blk.0.ffn_up": (64, 256), "blk.0.ffn_down": (256, 64),
    }  # fmt: skip
    chosen = kinds or {}
    tensors = []
    for name, shape in shapes.items():
        kind = "f32" if len(shape) == 1 else chosen.get(name.rpartition(".")[2], "q8_0")
        tensors.append(random_tensor(f"{name}.weight", kind, shape))
    return metadata, tensors


MIXED = {
    "token_embd": "q6_k", "attn_q": "q4_0", "attn_k": "q4_1", "attn_v": "q5_0",
    "attn_output": "f16", "ffn_gate": "q4_k", "ffn_up": "q5_k", "ffn_down": "q5_1",
}  # fmt: skip


def small_gguf(kinds: dict[str, str] | None = None) -> bytes:
    return gguf_bytes(*small_llama(kinds))


def safetensors_bytes(
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]], **changes: Any
) -> bytes:
    """A safetensors file: name -> (dtype, shape, bytes); `changes` replaces header entries."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": place}
        data += raw
    text = json.dumps(header | changes).encode()
    return len(text).to_bytes(8, "little") + text + data
