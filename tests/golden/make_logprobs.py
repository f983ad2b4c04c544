"""Make the next-token log-probabilities of transformers in fp32, and the yardstick of its bf16.

- ``logprobs_tiny.npz``, for each model NAME of ``tiny/``: ``NAME_ids_L`` ``[L]`` int32, seeded
  prompts of length L = 1, 37, 100, 530; ``NAME_lp_L`` ``[P, V]`` float32, log-probabilities (nats,
  rounded to 2^-14) after each of the last P tokens, where P = 1, 37, 50, 12.
- ``logprobs_smollm2.npz``, ``logprobs_gemma3.npz``, from the GGUF weights dequantised to float32:
  ``tokens`` ``[16, 64]`` and ``long_tokens`` ``[640]`` int32 (the texts of ``texts.py``; Gemma's
  begin with its BOS); ``rows`` ``[N, 2]`` int32 = (window, position), where window 16 is the long
  one; ``head_ids``, ``head_lp`` ``[N, 64]``, ``tail_ids``, ``tail_lp`` ``[N, 32]`` and
  ``tail_mass`` ``[N]``: the distribution after that position, as ``divergence.py`` says.
- ``logprobs.json``: mean KL(fp32 || bf16), nats, of transformers' own bf16 over the same positions,
  exact and by the same estimator; with ``fp32_head`` the last hidden state is bf16 but the logits
  are not rounded. For the tiny models the KL is exact, over all stored positions.
- ``greedy_smollm2.json``: transformers' bf16 greedy continuations (up to 48 tokens, end of text
  included). Per step: ``ids`` (chosen), ``second`` and ``gap`` (runner-up and its distance in bf16
  logits; 0 is a tie, and the lower id wins it), ``fp32_top`` and ``fp32_margin``: what the fp32
  model would choose after the same prefix, and the fp32 logit of the chosen id minus that of the
  best other id (negative where fp32 disagrees).

Attention is transformers' default (sdpa). The bf16 numbers depend a little on the CPU: these come
from one with AVX-512 BF16. Made with: torch 2.13.0 (CPU), transformers 5.23.0, gguf 0.19.0, and the
tokenizer of llama.cpp in the llama-cpp-python 0.3.36 source package.

    python make_logprobs.py [--tiny] [--libllama LIB --smollm2 FILE.gguf --gemma3 FILE.gguf]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import texts
import torch
from divergence import estimated_kl, exact_kl, pack
from gguf_to_hf import load
from llama_cpp import Tokenizer
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
TINY = ["llama", "llama_rope3", "qwen2", "qwen3", "gemma3"]
LENGTHS = {1: 1, 37: 37, 100: 50, 530: 12}  # prompt length: how many positions are stored
HEAD, TAIL, WINDOW, LONG, STEPS = 64, 32, 64, 640, 48
SHORT_POSITIONS = [0, *range(1, WINDOW, 2)]
LONG_POSITIONS = [30, 31, 32, 33, 127, 128, 255, 256, 257, 510, 511, 512, 513, 514, 575, 576, 639]
CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


@torch.no_grad()
def logits_of(model: torch.nn.Module, ids: np.ndarray) -> torch.Tensor:
    """``[L]`` token ids -> ``[L, V]`` logits in the model's dtype."""
    return model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0]


@torch.no_grad()
def fp32_head_logits(model: torch.nn.Module, ids: np.ndarray) -> torch.Tensor:
    """Logits of a bf16 model whose last product alone is done in fp32."""
    hidden = model.model(torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0]
    return hidden.float() @ model.lm_head.weight.float().T


def logprobs_of(logits: torch.Tensor) -> np.ndarray:
    """Logits -> float64 log-probabilities."""
    return torch.log_softmax(logits.double(), -1).numpy()


def make_tiny(out: Path) -> dict[str, Any]:
    """Write ``logprobs_tiny.npz``; return the bf16 yardsticks."""
    arrays: dict[str, np.ndarray] = {}
    report: dict[str, Any] = {}
    for name in TINY:
        fp32, bf16, fp64 = (
            AutoModelForCausalLM.from_pretrained(HERE / "tiny" / name, dtype=dtype).eval()
            for dtype in (torch.float32, torch.bfloat16, torch.float64)
        )
        rng = np.random.default_rng(list(f"prompts of {name}".encode()))
        divergences, errors = [], []
        for length, keep in LENGTHS.items():
            ids = rng.integers(3, fp32.config.vocab_size, length).astype(np.int32)
            exact, rounded, best = (logprobs_of(logits_of(m, ids)) for m in (fp32, bf16, fp64))
            arrays[f"{name}_ids_{length}"] = ids
            arrays[f"{name}_lp_{length}"] = (np.rint(exact[-keep:] * 2**14) / 2**14).astype("f4")
            divergences.append(exact_kl(exact[-keep:], rounded[-keep:]))
            errors.append(np.abs(exact - best).max())
        kl = np.concatenate(divergences)
        report[name] = {"bf16_kl": float(kl.mean()), "positions": len(kl)}
        report[name]["fp32_error_against_fp64"] = float(max(errors))
        print(name, report[name])
    np.savez_compressed(out / "logprobs_tiny.npz", **arrays)
    return report


def sample_row(log_p: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One position's head and tail: ``[V]`` log-probabilities -> the arrays of the fixture."""
    order = np.argsort(-log_p, kind="stable")
    head, rest = order[:HEAD], order[HEAD:]
    mass = np.exp(log_p[rest])
    tail = rng.choice(rest, TAIL, p=mass / mass.sum())
    small = np.uint16 if len(log_p) <= 65536 else np.uint32
    return {
        "head_ids": head.astype(small),
        "head_lp": pack(log_p[head]),
        "tail_ids": tail.astype(small),
        "tail_lp": pack(log_p[tail]),
        "tail_mass": np.float32(mass.sum()),
    }


def make_real(name: str, path: Path, tokenizer: Tokenizer, out: Path) -> dict[str, Any]:
    """Write ``logprobs_NAME.npz``; return the bf16 yardstick."""
    fp32, bf16 = load(path, torch.float32), load(path, torch.bfloat16)
    windows = [np.array(tokenizer.encode(text)[:WINDOW], np.int32) for text in texts.SHORT]
    windows.append(np.array(tokenizer.encode(texts.LONG)[:LONG], np.int32))
    assert [len(w) for w in windows] == [WINDOW] * len(texts.SHORT) + [LONG]
    rng = np.random.default_rng(list(name.encode()))
    rows: list[dict[str, np.ndarray]] = []
    kl: dict[str, list[float]] = {"exact": [], "fp32_head": []}
    others: list[tuple[int, np.ndarray]] = []
    noise: list[float] = []
    for number, ids in enumerate(windows):
        positions = SHORT_POSITIONS if len(ids) == WINDOW else LONG_POSITIONS
        log_p = logprobs_of(logits_of(fp32, ids)[positions])
        log_q = logprobs_of(logits_of(bf16, ids)[positions])
        kl["exact"].extend(exact_kl(log_p, log_q))
        kl["fp32_head"].extend(exact_kl(log_p, logprobs_of(fp32_head_logits(bf16, ids)[positions])))
        for at, p, q in zip(positions, log_p, log_q, strict=True):
            row = sample_row(p, rng)
            others.append((len(rows), q))
            noise.append(float((q - p)[row["head_ids"]].std()))
            rows.append(row | {"rows": np.array([number, at], np.int32)})
    arrays = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    np.savez_compressed(
        out / f"logprobs_{name}.npz",
        tokens=np.stack(windows[:-1]),
        long_tokens=windows[-1],
        **arrays,
    )
    estimate = [estimated_kl(arrays, row, q) for row, q in others]
    report = {
        "positions": len(rows),
        "bf16_kl": float(np.mean(estimate)),
        "bf16_kl_exact": float(np.mean(kl["exact"])),
        "bf16_kl_exact_max": float(np.max(kl["exact"])),
        "bf16_kl_fp32_head_exact": float(np.mean(kl["fp32_head"])),
        "bf16_logprob_noise_std": float(np.mean(noise)),
    }
    print(name, report)
    return report


@torch.no_grad()
def continue_greedily(model: torch.nn.Module, prompt: list[int], end: int) -> dict[str, list]:
    """Greedy continuation with a KV cache: ids, and the runner-up with its distance per step."""
    out: dict[str, list] = {"ids": [], "second": [], "gap": []}
    feed, cache = torch.tensor([prompt]), None
    while len(out["ids"]) < STEPS and end not in out["ids"]:
        step = model(feed, past_key_values=cache, use_cache=True)
        logits, cache = step.logits[0, -1].float().numpy(), step.past_key_values
        first, second = np.argsort(-logits, kind="stable")[:2]
        out["ids"].append(int(first))
        out["second"].append(int(second))
        out["gap"].append(float(logits[first] - logits[second]))
        feed = torch.tensor([[int(first)]])
    return out


def make_greedy(path: Path, tokenizer: Tokenizer, out: Path) -> None:
    """Write ``greedy_smollm2.json``."""
    fp32, bf16 = load(path, torch.float32), load(path, torch.bfloat16)
    results = []
    for chat, text in texts.GREEDY:
        full = CHAT.format(text) if chat else text
        prompt = tokenizer.encode(full, parse_special=True)
        result = continue_greedily(bf16, prompt, end=2)
        ids = result["ids"]
        logits = logits_of(fp32, np.array(prompt + ids))[len(prompt) - 1 : -1].numpy()
        chosen = logits[np.arange(len(ids)), ids].copy()
        top = logits.argmax(-1)
        logits[np.arange(len(ids)), ids] = -np.inf
        margin = chosen - logits.max(-1)
        result |= {"fp32_top": top.tolist(), "fp32_margin": np.round(margin, 4).tolist()}
        written = tokenizer.decode(ids).decode("utf-8", "replace")
        results.append({"chat": chat, "prompt": full, "prompt_ids": prompt, "text": written})
        results[-1] |= result
        print(repr(written[:60]), len(ids), "smallest gap", min(result["gap"]))
    lines = ",\n".join(json.dumps(result) for result in results)
    (out / "greedy_smollm2.json").write_text(f"[\n{lines}\n]\n")


def main() -> None:
    """Make what the arguments allow; numbers of models not made now are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the tiny models")
    parser.add_argument("--libllama", type=Path, help="libllama, for its tokenizer")
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M-Instruct GGUF")
    parser.add_argument("--gemma3", type=Path, help="Gemma 3 270M GGUF")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    target = args.out / "logprobs.json"
    report = json.loads(target.read_text()) if target.exists() else {}
    if args.tiny:
        report["tiny"] = make_tiny(args.out)
    for name in ("smollm2", "gemma3"):
        if path := getattr(args, name):
            report[name] = make_real(name, path, Tokenizer(args.libllama, path), args.out)
    if args.smollm2:
        make_greedy(args.smollm2, Tokenizer(args.libllama, args.smollm2), args.out)
    target.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
