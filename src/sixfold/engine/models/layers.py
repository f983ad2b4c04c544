"""What the model files share: attention shapes and the pre-norm decoder block's halves.

A model file reads like its model's diagram; only what is the same in all of them lives here.
"""

from sixfold.core.config import ModelConfig
from sixfold.engine.kernels.program import Activation, ProgramBuilder, Value


def self_attention(b: ProgramBuilder, c: ModelConfig, h: Value, layer: int) -> Value:
    """Joint q, k, v projection, attention over the cache, output projection: [T, E]."""
    p = f"layers.{layer}."
    sliding = bool(c.sliding_layers) and c.sliding_layers[layer]
    rope = c.rope_local if sliding and c.rope_local is not None else c.rope
    norms = None
    if c.architecture in ("qwen3", "gemma3"):
        norms = (p + "q_norm.weight", p + "k_norm.weight", c.rms_norm_eps)
    width = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    qkv = b.linear(h, p + "qkv.weight", width, p + "qkv.bias" if c.attention_bias else None)
    heads = (c.num_heads, c.num_kv_heads, c.head_dim)
    scale = c.attention_scale or c.head_dim**-0.5
    o = b.attention(qkv, heads, scale, rope, c.sliding_window if sliding else None, norms)
    return b.linear(o, p + "o.weight", c.hidden_size)


def feed_forward(
    b: ProgramBuilder, c: ModelConfig, h: Value, layer: int, activation: Activation
) -> Value:
    """Gated feed-forward: down(act(gate h) * up h), [T, E]."""
    p = f"layers.{layer}."
    f = b.glu(h, p + "gate_up.weight", c.ffn_size, activation)
    return b.linear(f, p + "down.weight", c.hidden_size)


def output_weight(c: ModelConfig) -> str:
    """The output projection: the embedding table itself where they are tied."""
    return "embed.weight" if c.tie_word_embeddings else "lm_head.weight"
