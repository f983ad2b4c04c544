"""llama.cpp's matrix products, for kernel_rivals.py: a worker that answers lines on its input.

Weights lie in its repacked buffers where it has any for the format, as its own server would have
them. Speaks to libggml by ctypes. usage: rival_ggml.py DIRECTORY_OF_LIBGGML THREADS
"""

import ctypes
import sys
import time
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

TYPES = {"f32": 0, "w4": 2, "w8": 8, "bf16": 30}
"""ggml's numbers: F32, Q4_0, Q8_0, BF16."""
FOOTPRINT = 256 << 20
OVERHEAD = 1 << 20


class InitParams(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


class Ggml:
    """The few functions of libggml that a product needs."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._base = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
        self._cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"), ctypes.RTLD_GLOBAL)
        self._init = self._function("ggml_init", c_void_p, InitParams)
        self.free = self._function("ggml_free", None, c_void_p)
        self.tensor = self._function("ggml_new_tensor_2d", c_void_p, c_void_p, c_int, c_int64,
                                     c_int64)  # fmt: skip
        self.product = self._function("ggml_mul_mat", c_void_p, c_void_p, c_void_p, c_void_p)
        self.graph = self._function("ggml_new_graph_custom", c_void_p, c_void_p, c_size_t, c_bool)
        self.expand = self._function("ggml_build_forward_expand", None, c_void_p, c_void_p)
        self.bytes = self._function("ggml_nbytes", c_size_t, c_void_p)
        self.place = self._function("ggml_backend_alloc_ctx_tensors_from_buft", c_void_p, c_void_p,
                                    c_void_p)  # fmt: skip
        self.release = self._function("ggml_backend_buffer_free", None, c_void_p)
        self.fill = self._function("ggml_backend_tensor_set", None, c_void_p, c_char_p, c_size_t,
                                   c_size_t)  # fmt: skip
        self.compute = self._function("ggml_backend_graph_compute", c_int, c_void_p, c_void_p)
        self.plain = self._function("ggml_backend_cpu_buffer_type", c_void_p)()
        # C++, hence its name: the weights' layout for wide products.
        self.repacked = self._function("_Z35ggml_backend_cpu_repack_buffer_typev", c_void_p)()
        self.backend = self._function("ggml_backend_cpu_init", c_void_p)()
        self._function("ggml_backend_cpu_set_n_threads", None, c_void_p, c_int)(
            self.backend, threads
        )

    def context(self) -> int:
        """Room for the records of tensors, not for their data."""
        return int(self._init(InitParams(OVERHEAD, None, True)))

    def _function(self, name: str, result: object, *arguments: object) -> Callable[..., int]:
        library = self._cpu if hasattr(self._cpu, name) else self._base
        function = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)
        return function  # type: ignore[no-any-return]


class Product:
    """[m, k] by [n, k], through as many copies of the weights as fill memory."""

    def __init__(self, ggml: Ggml, form: str, n: int, k: int, m: int) -> None:
        self._ggml = ggml
        self._weights, self._rest = ggml.context(), ggml.context()
        first = ggml.tensor(self._weights, TYPES[form], k, n)
        count = min(256, max(1, FOOTPRINT // ggml.bytes(first)))
        weights = [first] + [ggml.tensor(self._weights, TYPES[form], k, n)
                             for _ in range(count - 1)]  # fmt: skip
        kind = ggml.repacked if form == "w4" else ggml.plain
        self._buffers = [ggml.place(self._weights, kind)]
        for weight in weights:
            ggml.fill(weight, bytes(ggml.bytes(weight)), 0, ggml.bytes(weight))
        rows = ggml.tensor(self._rest, TYPES["f32"], k, m)
        products = [ggml.product(self._rest, weight, rows) for weight in weights]
        self._buffers.append(ggml.place(self._rest, ggml.plain))
        ggml.fill(rows, bytes(4 * k * m), 0, 4 * k * m)
        self._graphs = [self._graph([one]) for one in products]
        self._at = 0

    def run(self, count: int) -> float:
        """Seconds of so many products."""
        began = time.perf_counter()
        for _ in range(count):
            self._ggml.compute(self._ggml.backend, self._graphs[self._at])
            self._at = (self._at + 1) % len(self._graphs)
        return time.perf_counter() - began

    def close(self) -> None:
        """Give the memory back."""
        for buffer in self._buffers:
            self._ggml.release(buffer)
        self._ggml.free(self._weights)
        self._ggml.free(self._rest)

    def _graph(self, nodes: list[int]) -> int:
        graph = self._ggml.graph(self._rest, len(nodes) + 2, False)
        for node in nodes:
            self._ggml.expand(graph, node)
        return graph


def main() -> None:
    """Serve: `FORM N K M` makes a product (answer: ok), `COUNT` runs it (answer: seconds)."""
    ggml = Ggml(Path(sys.argv[1]), int(sys.argv[2]))
    product: Product | None = None
    for line in sys.stdin:
        words = line.split()
        if len(words) == 4:
            if product:
                product.close()
            product = Product(ggml, words[0], *map(int, words[1:]))
            product.run(3)
            print("ok", flush=True)
        elif product:
            print(product.run(int(words[0])), flush=True)


if __name__ == "__main__":
    main()
