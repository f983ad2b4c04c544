"""Gemma 3 (Gemma Team, 2025): sandwich norms, scaled embeddings, GeGLU, qk-norm, and sliding
windows on most layers, whose rotary embedding has its own base."""

from sixfold.core.config import ModelConfig
from sixfold.engine.kernels.program import Program, ProgramBuilder
from sixfold.engine.models.layers import feed_forward, output_weight, self_attention


def build(c: ModelConfig) -> Program:
    """As Llama, but each half's result is normalised before it is added."""
    b, eps = ProgramBuilder(), c.rms_norm_eps
    x = b.embed("embed.weight", c.hidden_size, c.embedding_scale)
    for i in range(c.num_layers):
        b.begin_layer()
        p = f"layers.{i}."
        h = b.rms_norm(x, p + "attn_norm.weight", eps)
        y = self_attention(b, c, h, i)
        x = b.add(x, b.rms_norm(y, p + "post_attn_norm.weight", eps))
        h = b.rms_norm(x, p + "ffn_norm.weight", eps)
        y = feed_forward(b, c, h, i, "gelu_tanh")
        x = b.add(x, b.rms_norm(y, p + "post_ffn_norm.weight", eps))
    b.logits(x, "final_norm.weight", eps, output_weight(c), c.vocab_size)
    return b.build()
