"""What the kernel benchmark runs: the matrices of real models, rows, attention's shapes.

Not here: running them (kernels.py).
"""

from collections.abc import Iterator
from typing import NamedTuple


class Shape(NamedTuple):
    """A model's sizes: E hidden, F ffn, heads, KV heads, head size."""

    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int


MODELS = {
    "smollm2-135m": Shape(576, 1536, 9, 3, 64),
    "gemma3-270m": Shape(640, 2048, 4, 1, 256),
    "qwen3-0.6b": Shape(1024, 3072, 16, 8, 128),
    "llama3.2-1b": Shape(2048, 8192, 32, 8, 64),
    "llama3.2-3b": Shape(3072, 8192, 24, 8, 128),
    "llama3.1-8b": Shape(4096, 14336, 32, 8, 128),
}
ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512)
FORMATS = ("w4", "w4_asym", "w4_128", "w8", "w8_128", "bf16")
QUICK_MODELS, QUICK_ROWS = ("smollm2-135m", "llama3.2-1b"), (1, 4, 16, 64, 256)


class Gemm(NamedTuple):
    """One linear layer, M rows."""

    model: str
    layer: str
    form: str
    n: int
    k: int
    m: int

    @property
    def id(self) -> str:
        """Of its line in the record."""
        return f"gemm {self.form} {self.model} {self.layer} M={self.m}"


class Attend(NamedTuple):
    """Attention of one layer: `requests` of `new` tokens each, behind `past` tokens of KV."""

    head_dim: int
    group: int
    kv_heads: int
    requests: int
    new: int
    past: int
    shared: float = 0.0
    """Of `past`: the part that all requests share."""
    kv: str = "bf16"
    """What the cache holds."""

    @property
    def id(self) -> str:
        """Of its line in the record."""
        what = "prefill" if self.new > 1 else "decode"
        shared = f" shared={self.shared:.0%}" if self.shared else ""
        what += "-int8kv" if self.kv == "int8" else ""
        return (f"{what} D={self.head_dim} group={self.group} kv_heads={self.kv_heads} "
                f"requests={self.requests} new={self.new} past={self.past}{shared}")  # fmt: skip


def layers(shape: Shape) -> dict[str, tuple[int, int]]:
    """(N, K) of each linear layer, as the engine joins them."""
    width = shape.heads * shape.head_dim
    return {
        "qkv": (width + 2 * shape.kv_heads * shape.head_dim, shape.hidden),
        "o": (shape.hidden, width),
        "gate_up": (2 * shape.ffn, shape.hidden),
        "down": (shape.hidden, shape.ffn),
    }


def gemms(quick: bool) -> Iterator[Gemm]:
    """Every layer of every model in every format; the rows vary fastest."""
    for model in QUICK_MODELS if quick else MODELS:
        for layer, (n, k) in layers(MODELS[model]).items():
            for form in FORMATS:
                for m in QUICK_ROWS if quick else ROWS:
                    yield Gemm(model, layer, form, n, k, m)


def attentions(quick: bool) -> Iterator[Attend]:
    """Prefill over growing contexts; decode by group, context and batch."""
    for head_dim in (64, 128) if quick else (64, 128, 256):
        for new, past in ((512, 0), (512, 3584)) if quick else ((512, 0), (2048, 0), (512, 7680)):
            yield Attend(head_dim, 4, 2, 1, new, past)
        for group in (1, 4) if quick else (1, 2, 3, 4, 6, 8):
            for requests, past in ((8, 4095),) if quick else (
                (1, 4095), (8, 511), (8, 4095), (32, 4095), (4, 32767),
            ):  # fmt: skip
                yield Attend(head_dim, group, 4, requests, 1, past)
    for head_dim in (64,) if quick else (64, 128, 256):
        for group in (4,) if quick else (1, 4, 8):
            for requests, past in ((8, 4095),) if quick else ((8, 4095), (32, 4095), (4, 32767)):
                yield Attend(head_dim, group, 4, requests, 1, past, kv="int8")
    for head_dim in (64,) if quick else (64, 128):
        for shared in (0.0, 1.0) if quick else (0.0, 0.5, 0.9, 1.0):
            yield Attend(head_dim, 4, 4, 32, 1, 4096, shared)
