"""Llama (Touvron et al., 2023): SmolLM2, Llama 2 and 3. Qwen2 and Qwen3 are the same diagram.

Qwen2 adds biases to q, k and v; Qwen3 normalises each head of q and k. Both are in the
attention's shape (`ModelConfig`), so one file draws all three.
"""

from sixfold.core.config import ModelConfig
from sixfold.engine.kernels.program import Program, ProgramBuilder
from sixfold.engine.models.layers import feed_forward, output_weight, self_attention


def build(c: ModelConfig) -> Program:
    """embed, then per layer: norm, attention, add; norm, feed-forward, add; then logits."""
    b, eps = ProgramBuilder(), c.rms_norm_eps
    x = b.embed("embed.weight", c.hidden_size)
    for i in range(c.num_layers):
        b.begin_layer()
        h = b.rms_norm(x, f"layers.{i}.attn_norm.weight", eps)
        x = b.add(x, self_attention(b, c, h, i))
        h = b.rms_norm(x, f"layers.{i}.ffn_norm.weight", eps)
        x = b.add(x, feed_forward(b, c, h, i, "silu"))
    b.logits(x, "final_norm.weight", eps, output_weight(c), c.vocab_size)
    return b.build()
