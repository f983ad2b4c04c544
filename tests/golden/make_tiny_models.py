"""Make tiny seeded Hugging Face checkpoints: one directory per architecture under ``tiny/``.

Each directory holds ``config.json`` (written by hand, in the forms that are found on model hubs)
and ``model.safetensors``. There is no tokenizer: the fixtures speak token ids.

All weights are exactly representable in bfloat16 *and* in the dtype they are stored in, so a test
that loads them in float32 and one that loads them in bfloat16 see the same numbers. The stored
dtypes differ on purpose (F32, BF16, F16), so that a loader meets all three. Scales are far from
the usual initialisation: attention is peaked and the distributions are not flat, so that a wrong
rotation, norm or mask is a large error and not noise.

Made with: torch 2.13.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6.

    python make_tiny_models.py [--out DIR]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

COMMON: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}

MODELS: dict[str, dict[str, Any]] = {
    # Llama, untied, grouped-query attention with two query heads per KV head.
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    },
    # Llama 3 frequency scaling that bites within the test prompts; three query heads per KV head.
    "llama_rope3": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 96,
        "num_attention_heads": 3,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    },
    # Qwen 2: bias on q, k and v.
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
    },
    # Qwen 3: norm on q and k, head size that is not hidden / heads; the newer config spelling.
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "attention_bias": False,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    },
    # Gemma 3: local (window 16) and global layers, two rope bases, its own query scale.
    "gemma3": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "head_dim": 32,
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 16,
        "query_pre_attn_scalar": 48,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    },
}


def config_for(name: str) -> dict[str, Any]:
    """The ``config.json`` of one model."""
    config = COMMON | MODELS[name]
    if "hidden_activation" in config:
        del config["hidden_act"]
    return config


def fill(name: str, shape: tuple[int, ...], rng: np.random.Generator, gemma: bool) -> np.ndarray:
    """Seeded values of one tensor, float32, on a scale that gives peaked distributions."""
    normal = rng.standard_normal(shape)
    if name.endswith("norm.weight"):
        centre = 0.0 if gemma else 1.0  # Gemma stores norm weights as an offset from one
        qk = "q_norm" in name or "k_norm" in name
        return centre + (0.5 if qk else 0.0) + 0.25 * normal
    if name.endswith(".bias"):
        return 0.5 * normal
    if "embed_tokens" in name or "lm_head" in name:
        return (0.2 if gemma else 0.3) * normal
    return normal * (1.5 if "self_attn" in name else 1.0) / np.sqrt(shape[-1])


def make(name: str, out: Path) -> None:
    """Write ``out/config.json`` and ``out/model.safetensors``."""
    config = config_for(name)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    stored = getattr(torch, config.get("torch_dtype") or config["dtype"])
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(out))
    rng = np.random.default_rng(list(name.encode()))
    state: dict[str, torch.Tensor] = {}
    for key, tensor in sorted(model.state_dict().items()):
        if key == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        values = torch.from_numpy(fill(key, tuple(tensor.shape), rng, "gemma" in name).copy())
        # Through float16 and bfloat16: what is left is exact in both.
        state[key] = values.to(torch.float16).to(torch.bfloat16).to(stored).contiguous()
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    loaded, report = AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    size = (out / "model.safetensors").stat().st_size
    print(f"{name}: {sum(p.numel() for p in loaded.parameters())} parameters, {size} bytes")


def main() -> None:
    """Make every model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tiny")
    out = parser.parse_args().out
    for name in MODELS:
        make(name, out / name)


if __name__ == "__main__":
    main()
