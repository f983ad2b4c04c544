"""oneDNN's matrix products by way of torch, for kernel_rivals.py: a worker as rival_ggml.py is.

Weights are in oneDNN's own layout, as inference engines on torch have them. Runs under an
interpreter that has torch. usage: rival_onednn.py THREADS
"""

import sys
import time

import torch

FOOTPRINT = 256 << 20


class Product:
    """[m, k] by [n, k] in bf16 or 8 bits, through as many copies as fill memory."""

    def __init__(self, form: str, n: int, k: int, m: int) -> None:
        size = n * k * (2 if form == "bf16" else 1)
        count = min(256, max(1, FOOTPRINT // size))
        self._at = 0
        if form == "bf16":
            plain = torch.zeros(n, k, dtype=torch.bfloat16)
            self._weights = [torch.ops.mkldnn._reorder_linear_weight(plain.to_mkldnn(), m)
                             for _ in range(count)]  # fmt: skip
            self._rows = torch.zeros(m, k, dtype=torch.bfloat16)
            self._one = self._bf16
        elif form == "w8":
            codes = torch.zeros(n, k, dtype=torch.int8).t()
            self._weights = [torch.ops.onednn.qlinear_prepack(codes, [m, k]) for _ in range(count)]
            self._rows = torch.zeros(m, k, dtype=torch.uint8)
            self._scales = torch.ones(n)
            self._zeros = torch.zeros(n, dtype=torch.int32)
            self._one = self._w8
        else:
            raise ValueError(form)

    def run(self, count: int) -> float:
        """Seconds of so many products."""
        began = time.perf_counter()
        for _ in range(count):
            self._one(self._weights[self._at])
            self._at = (self._at + 1) % len(self._weights)
        return time.perf_counter() - began

    def _bf16(self, weight: torch.Tensor) -> None:
        torch.ops.mkldnn._linear_pointwise(self._rows, weight, None, "none", [], "")

    def _w8(self, weight: torch.Tensor) -> None:
        torch.ops.onednn.qlinear_pointwise(self._rows, 1.0, 128, weight, self._scales, self._zeros,
                                           None, 1.0, 0, torch.float32, "none", [], "")  # fmt: skip


def main() -> None:
    """Serve: `FORM N K M` makes a product (answer: ok, or none), `COUNT` runs it (seconds)."""
    torch.set_num_threads(int(sys.argv[1]))
    product = None
    with torch.inference_mode():
        for line in sys.stdin:
            words = line.split()
            if len(words) == 4:
                try:
                    product = Product(words[0], *map(int, words[1:]))
                except ValueError:
                    print("none", flush=True)
                    continue
                product.run(3)
                print("ok", flush=True)
            elif product:
                print(product.run(int(words[0])), flush=True)


if __name__ == "__main__":
    main()
