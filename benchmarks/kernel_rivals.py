"""Our matrix products beside llama.cpp's, sample by sample in turn.

All at the same sizes, out of memory, on all cores; as shares of the limit that is probed beside.
--ggml names llama.cpp's libraries.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from kernel_cases import MODELS, Gemm, layers
from kernels import Weights, Work, gemm_work, seconds
from recording import save
from sixfold.core.record import Measure
from sixfold.engine.kernels import cpu
from sixfold.engine.kernels.ops import LimitProbe
from steps import probed
from tables import render

HERE = Path(__file__).resolve().parent
SAMPLE_SECONDS = 0.01
FORMS = ("bf16", "w8", "w4")
ROWS = (1, 4, 16, 64, 512)
CASES = (("smollm2-135m", "gate_up"), ("llama3.2-1b", "gate_up"), ("llama3.2-1b", "down"))


class Rival:
    """A worker process that multiplies when it is asked."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, text=True)  # fmt: skip

    def prepare(self, form: str, case: Gemm) -> Callable[[int], float] | None:
        """How to run it so many times; None if it has no such product."""
        if self._ask(f"{form} {case.n} {case.k} {case.m}") != "ok":
            return None
        return lambda count: float(self._ask(str(count)))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, line: str) -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.name} ended at {line!r}")
        return answer


def rivals(a: argparse.Namespace) -> Iterator[Rival]:
    """Those that were named."""
    threads = str(cpu.allowed_threads())
    if a.ggml:
        command = [sys.executable, str(HERE / "rival_ggml.py"), a.ggml, threads]
        yield Rival("llama.cpp", command)


def cases() -> Iterator[tuple[str, Gemm]]:
    """Formats by rows by matrices."""
    for model, layer in CASES:
        n, k = layers(MODELS[model])[layer]
        for form in FORMS:
            for m in ROWS:
                yield form, Gemm(model, layer, form, n, k, m)


def compared(work: Work, once: float, others: dict[str, Callable[[int], float]], samples: int
             ) -> dict[str, float]:  # fmt: skip
    """Median seconds per product of each, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in ("sixfold", *others)}
    counts = {name: max(1, round(SAMPLE_SECONDS / run(1))) for name, run in others.items()}
    for _ in range(samples):
        taken["sixfold"].append(seconds(work.run) / once)
        for name, run in others.items():
            taken[name].append(run(counts[name]) / counts[name])
    return {name: median(values) for name, values in taken.items()}


def main() -> int:
    """Compare, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--ggml", default="", help="directory of libggml-base.so and libggml-cpu.so"
    )
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--record", action="store_true", help="write docs/results/rivals.json")
    a = parser.parse_args()
    isa, threads = cpu.choose_tier("auto"), cpu.allowed_threads()
    probe, weights, workers = LimitProbe(isa, threads), Weights(), list(rivals(a))
    table: dict[str, dict[str, Measure]] = {}
    for form, case in cases():
        ready = {w.name: run for w in workers if (run := w.prepare(form, case))}
        work = gemm_work(case, weights, isa, threads)
        operations = 2.0 * case.m * case.n * case.k
        found = compared(work, work.operations / operations, ready, a.samples)
        limits = probed(probe)
        limit = limits[work.arithmetic if case.m > 4 else "read"]
        amount = operations if case.m > 4 else work.bytes / (work.operations / operations)
        row = {f"{name}": Measure(values=[100 * amount / took / limit], unit="% of limit")
               for name, took in found.items()}  # fmt: skip
        for name in ready:
            row[f"over {name}"] = Measure(values=[found[name] / found["sixfold"]], unit="x")
        table[f"{case.model} {case.layer}, {form}, M={case.m}"] = row
        print(f"{case.id}: " + ", ".join(f"{k} {m.median:.3g} {m.unit}" for k, m in row.items()),
              flush=True)  # fmt: skip
    for worker in workers:
        worker.close()
    print("\n" + render(table))
    if a.record:
        save("rivals", "Matrix products beside llama.cpp's",
             {"samples": a.samples, "rows": list(ROWS)}, table,
             "The limit of up to 4 rows is reading our bytes of the weights, of more rows "
             "arithmetic. llama.cpp: BF16, Q8_0, Q4_0."
             )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
