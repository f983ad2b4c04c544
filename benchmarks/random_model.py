"""Makes a Llama-shaped model of random weights: for speed, which does not depend on their values.

Its vocabulary has a token for every byte and fillers above. Not for anything that is said of text.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from kernel_cases import MODELS, Shape
from sixfold.engine.kernels.packing import to_bf16

VOCAB = 49152
LAYERS = {"smollm2-135m": 30, "qwen3-0.6b": 28, "llama3.2-1b": 16, "llama3.2-3b": 28}


def config(shape: Shape, layers: int) -> dict[str, object]:
    """config.json."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": shape.hidden, "intermediate_size": shape.ffn, "vocab_size": VOCAB,
        "num_hidden_layers": layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def tensors(shape: Shape, layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes, as Hugging Face has them."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB, shape.hidden), "model.norm.weight": (shape.hidden,),
    }  # fmt: skip
    for i in range(layers):
        p = f"model.layers.{i}."
        found |= {
            p + "self_attn.q_proj.weight": (q, shape.hidden),
            p + "self_attn.k_proj.weight": (kv, shape.hidden),
            p + "self_attn.v_proj.weight": (kv, shape.hidden),
            p + "self_attn.o_proj.weight": (shape.hidden, q),
            p + "mlp.gate_proj.weight": (shape.ffn, shape.hidden),
            p + "mlp.up_proj.weight": (shape.ffn, shape.hidden),
            p + "mlp.down_proj.weight": (shape.hidden, shape.ffn),
            p + "input_layernorm.weight": (shape.hidden,),
            p + "post_attention_layernorm.weight": (shape.hidden,),
        }
    return found


def write_weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """model.safetensors: a header of JSON, then bfloat16 values; norms are ones."""
    header, at = {}, 0
    for name, dims in shapes.items():
        size = 2 * int(np.prod(dims))
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for dims in shapes.values():
            values = np.ones(dims, np.float32)
            if len(dims) > 1:
                values = rng.normal(0, 0.02, dims).astype(np.float32)
            file.write(to_bf16(values).tobytes())


def write_tokenizer(path: Path) -> None:
    """tokenizer.json."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(letters)}
    vocab |= {f"filler{i}": i for i in range(len(letters), VOCAB)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))


def make(name: str, folder: Path) -> None:
    """The whole directory; it is as it should be once config.json is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / "model.safetensors", tensors(MODELS[name], LAYERS[name]))
    write_tokenizer(folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps(config(MODELS[name], LAYERS[name]), indent=1))


def main() -> int:
    """Make one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=LAYERS)
    parser.add_argument("folder", type=Path)
    a = parser.parse_args()
    make(a.name, a.folder)
    print(f"wrote {a.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
