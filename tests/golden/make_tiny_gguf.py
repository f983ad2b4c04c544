"""Make ``tiny_gguf/``: two small GGUF files that hold everything a reader has to understand.

- ``tiny-llama.gguf``: a seeded Llama of two layers (head size 32 that is not hidden / heads, tied
  embedding) in which each of the eleven tensor types F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1,
  Q4_K, Q5_K, Q6_K occurs (see ``TYPES``), with a byte-level BPE tokenizer (``gpt2``, ``pre`` =
  ``gpt-2``) of 368 tokens, trained on ``texts.py``, and a chat template.
- ``tiny-spm.gguf``: metadata only, a SentencePiece tokenizer (``llama``) with byte fallback, space
  prefix, BOS and a few user-defined tokens.
- ``logprobs.npz``: ``ids_L`` ``[L]`` int32 and ``lp_L`` ``[P, V]`` float32 for prompts of length
  L = 1, 37, 100: transformers' fp32 log-probabilities (nats, rounded to 2^-14) of the dequantised
  ``tiny-llama.gguf`` after each of the last P = 1, 24, 24 tokens.

Both files are also a corpus for fuzzing. Their tokens on ``hard_strings.py`` by llama.cpp are in
``tokenizer_tiny-llama.json`` and ``tokenizer_tiny-spm.json`` (``make_tokenizer_vectors.py``).

Made with: gguf 0.19.0, ggml of the llama-cpp-python 0.3.36 source package, tokenizers 0.23.3, torch
2.13.0, transformers 5.23.0, numpy 2.4.6.

    python make_tiny_gguf.py LIBGGML_BASE [--out DIR]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import texts
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf_to_hf import load
from llama_cpp import Ggml
from make_logprobs import logits_of, logprobs_of
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 256, 128, 2, 4, 2, 32
BPE_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPM_SPECIAL = ["<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"]
SPM_USER = [
    "\n",
    "\n\n",
    "\n\n\n",
    "  ",
    "    ",
    "<h1>",
    "</h1>",
]  # plain spaces, as in Gemma's file
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Shapes as a matrix product reads them, [rows, row length]; K formats need rows of 256.
SHAPES = {
    "attn_q": (HEADS * HEAD_DIM, HIDDEN),
    "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD_DIM),
    "ffn_gate": (FFN, HIDDEN),
    "ffn_up": (FFN, HIDDEN),
    "ffn_down": (HIDDEN, FFN),
}
TYPES = {
    "attn_q": ["Q4_K", "Q8_0"],
    "attn_k": ["Q5_K", "F16"],
    "attn_v": ["Q6_K", "BF16"],
    "attn_output": ["Q4_0", "Q5_0"],
    "ffn_gate": ["Q4_1", "Q4_K"],
    "ffn_up": ["Q5_K", "Q6_K"],
    "ffn_down": ["Q8_0", "Q5_1"],
}


def bpe_vocabulary(size: int) -> tuple[list[str], list[str]]:
    """Train byte-level BPE: tokens by id, and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=BPE_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts.SHORT, texts.LONG], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [" ".join(pair) for pair in model["merges"]]


def spm_vocabulary(size: int) -> list[tuple[str, float, TokenType]]:
    """SentencePiece tokens by id: (text, score, type)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False)
    tokenizer.train_from_iterator([*texts.SHORT, texts.LONG], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merged = ["".join(pair) for pair in model["merges"]]
    chars = sorted(token for token in model["vocab"] if len(token) == 1)
    tokens = [(t, -1000.0, TokenType.CONTROL) for t in SPM_SPECIAL]
    tokens[0] = (SPM_SPECIAL[0], -1000.0, TokenType.UNKNOWN)
    tokens += [(f"<0x{byte:02X}>", 0.0, TokenType.BYTE) for byte in range(256)]
    tokens += [(t, -1000.0, TokenType.USER_DEFINED) for t in SPM_USER]
    known = {t for t, _, _ in tokens}
    pieces = [t for t in [*dict.fromkeys(merged), *chars] if t not in known]
    return tokens + [(t, -float(rank), TokenType.NORMAL) for rank, t in enumerate(pieces)]


def start(path: Path, vocabulary: int) -> GGUFWriter:
    """A writer with the model's metadata."""
    writer = GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_license("apache-2.0")
    writer.add_context_length(1024)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    return writer


def finish(writer: GGUFWriter) -> None:
    """Write everything out."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tensor(writer: GGUFWriter, ggml: Ggml, name: str, values: np.ndarray, kind: str) -> None:
    """Quantise one tensor and add it."""
    if kind == "F32":
        writer.add_tensor(name, values.astype(np.float32))
        return
    number = GGMLQuantizationType[kind]
    data = ggml.quantize(values.astype(np.float32), number)
    if kind == "F16":
        writer.add_tensor(name, data.view(np.float16))
    else:
        writer.add_tensor(name, data, raw_dtype=number)


def write_llama(path: Path, ggml: Ggml) -> None:
    """Write ``tiny-llama.gguf``."""
    tokens, merges = bpe_vocabulary(368)
    writer = start(path, len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    special = [TokenType.CONTROL if t in BPE_SPECIAL else TokenType.NORMAL for t in tokens]
    writer.add_token_types(special)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(20240507)
    embedding = 0.15 * rng.standard_normal((len(tokens), HIDDEN))
    add_tensor(writer, ggml, "token_embd.weight", embedding, "Q4_0")
    for layer in range(LAYERS):
        for name, shape in SHAPES.items():
            gain = 1.5 if name.startswith("attn") else 1.0
            values = rng.standard_normal(shape) * gain / np.sqrt(shape[1])
            add_tensor(writer, ggml, f"blk.{layer}.{name}.weight", values, TYPES[name][layer])
        for name in ("attn_norm", "ffn_norm"):
            values = 1 + 0.25 * rng.standard_normal(HIDDEN)
            add_tensor(writer, ggml, f"blk.{layer}.{name}.weight", values, "F32")
    values = 1 + 0.25 * rng.standard_normal(HIDDEN)
    add_tensor(writer, ggml, "output_norm.weight", values, "F32")
    finish(writer)


def write_spm(path: Path) -> None:
    """Write ``tiny-spm.gguf``."""
    tokens, scores, types = zip(*spm_vocabulary(360), strict=True)
    writer = start(path, len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(tokens))
    writer.add_token_scores(list(scores))
    writer.add_token_types(list(types))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    finish(writer)


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("libggml_base", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tiny_gguf")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_llama(args.out / "tiny-llama.gguf", Ggml(args.libggml_base))
    write_spm(args.out / "tiny-spm.gguf")
    model = load(args.out / "tiny-llama.gguf", torch.float32)
    rng = np.random.default_rng(20240508)
    arrays: dict[str, np.ndarray] = {}
    for length in (1, 37, 100):
        ids = rng.integers(3, model.config.vocab_size, length).astype(np.int32)
        logprobs = logprobs_of(logits_of(model, ids))[-24:]
        arrays[f"ids_{length}"] = ids
        arrays[f"lp_{length}"] = (np.rint(logprobs * 2**14) / 2**14).astype(np.float32)
        print(length, "entropy", float(-(np.exp(logprobs) * logprobs).sum(-1).mean()))
    np.savez_compressed(args.out / "logprobs.npz", **arrays)


if __name__ == "__main__":
    main()
