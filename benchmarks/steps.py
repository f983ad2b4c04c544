"""The engine's whole steps in process: tokens per second, their share of the machine's bound, and
where a step's time goes.

The bound of a step adds up, over linear layers, attention and output projection, the longer of
reading its bytes and doing its operations, at the limits that are probed beside each run. Runs of
all cases take turns. Not here: the server (server_throughput.py), single kernels (kernels.py).
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from random_model import make
from recording import save
from sixfold.core.config import EngineConfig, ModelConfig
from sixfold.core.record import Measure
from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.engine import LLMEngine
from sixfold.engine.kernels import cpu
from sixfold.engine.kernels.ops import LimitProbe
from sixfold.engine.kernels.packing import KVDtype, page_bytes
from tables import render

Limits = dict[str, float]
WEIGHT_BYTES = {"bf16": 2.0, "int8": 1.0625, "int4": 0.5625}
"""Per weight, scales included (per 32 values; wider groups need less)."""


@dataclass(frozen=True)
class Case:
    """`requests` at once; `shared`: tokens that all their prompts begin with."""

    name: str
    requests: int
    prompt: int
    output: int
    shared: int = 0
    dtype: str = "bf16"
    kv: str = "auto"

    @property
    def id(self) -> str:
        """Of its line."""
        return f"{self.name}, {self.dtype}" + (", int8 KV" if self.kv == "int8" else "")


SCENES = (
    Case("A: one stream", 1, 128, 96),
    Case("B: prefill of 2048", 1, 2048, 1),
    Case("C: 64 at once, 128 in, 128 out", 64, 128, 128),
    Case("E: 32 behind 1024 shared tokens", 32, 64, 64, shared=1024),
    Case("F: 8 of 4096 tokens", 8, 4096, 160),
)
WARM_UP = Case("warm-up", 1, 64, 8)
LARGE = (Case("1B: 8 streams", 8, 128, 48), Case("1B: 16 streams", 16, 128, 48),
         Case("1B: one stream", 1, 128, 32), Case("1B: prefill of 1024", 1, 1024, 1))  # fmt: skip


def cases(scenes: tuple[Case, ...]) -> Iterator[Case]:
    """Every scene in every format; the long one with an 8-bit cache, too."""
    for scene in scenes:
        for dtype in WEIGHT_BYTES:
            yield replace(scene, dtype=dtype)
        if scene.output > 1 and scene.prompt + scene.shared >= 1024:
            yield replace(scene, kv="int8")


@dataclass
class Run:
    """What a run showed."""

    seconds: float = 0.0
    """From the first request to the last token."""
    tokens: int = 0
    """Prompt tokens where only one is sampled, else sampled ones."""
    steps: list[float] = field(default_factory=list)
    """Seconds of each step in which all requests decoded, and nothing else ran."""
    parts: list[dict[str, float]] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)


def request(name: str, prompt: list[int], output: int) -> EngineRequest:
    """Greedy, of exactly that many tokens."""
    params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
    return EngineRequest(request_id=name, prompt_token_ids=prompt, params=params,
                         arrival_time=time.monotonic())  # fmt: skip


def measured(engine: LLMEngine, case: Case, number: int, probe: LimitProbe) -> Run:
    """One run, with prompts of its own."""
    rng = np.random.default_rng(number)
    shared = rng.integers(300, 40000, case.shared).tolist()
    limits = probed(probe)
    began = time.perf_counter()
    for i in range(case.requests):
        own = rng.integers(300, 40000, case.prompt).tolist()
        engine.add_request(request(f"{number}-{i}", shared + own, case.output))
    run = Run()
    sampled = 0
    while engine.has_unfinished():
        before, start = engine.stats(), time.perf_counter()
        sampled += sum(len(delta.token_ids) for delta in engine.step())
        took, after = time.perf_counter() - start, engine.stats()
        run.seconds = time.perf_counter() - began
        if after.num_batched_tokens == case.requests and case.output > 1:
            run.steps.append(took)
            run.parts.append({part: seconds - before.step_seconds.get(part, 0.0)
                              for part, seconds in after.step_seconds.items()})  # fmt: skip
            context = case.shared + case.prompt + sampled / case.requests
            run.bounds.append(bound(engine.model_config, case, context, limits))
    run.tokens = sampled if case.output > 1 else case.prompt * case.requests
    return run


def probed(probe: LimitProbe) -> Limits:
    """The best of a few looks at each limit."""
    found = {"read": max(probe.read() for _ in range(5))}
    for kind in ("bf16", "int8"):
        found[kind] = max(probe.arithmetic(kind) for _ in range(5))  # type: ignore[arg-type]
    return found


def weights_of(m: ModelConfig) -> float:
    """Parameters of all linear layers, without tables."""
    width = (m.num_heads + 2 * m.num_kv_heads) * m.head_dim + m.num_heads * m.head_dim
    return float(m.num_layers * m.hidden_size * (width + 3 * m.ffn_size))


def bound(m: ModelConfig, case: Case, context: float, limits: Limits) -> float:
    """Seconds that a decode step takes at the limits."""
    kind = "bf16" if case.dtype == "bf16" else "int8"
    each = WEIGHT_BYTES[case.dtype]
    head = WEIGHT_BYTES["bf16" if case.dtype == "bf16" else "int8"]
    kv_dtype: KVDtype = "int8" if case.kv == "int8" else "bf16"
    per_token = m.num_layers * m.num_kv_heads * page_bytes(m.head_dim, kv_dtype) / 32
    read = per_token * (case.requests * (context - case.shared) + case.shared)
    work = 4.0 * m.num_layers * m.num_heads * m.head_dim * context * case.requests
    vocab = float(m.vocab_size * m.hidden_size)
    return sum((
        max(weights_of(m) * each / limits["read"],
            2 * weights_of(m) * case.requests / limits[kind]),
        max(vocab * head / limits["read"], 2 * vocab * case.requests / limits[kind]),
        max(read / limits["read"], work / limits["int8" if case.kv == "int8" else "bf16"]),
    ))  # fmt: skip


def engine_of(model: str, case: Case) -> LLMEngine:
    """With room for the case."""
    longest = case.shared + case.prompt + case.output + 32
    return LLMEngine(EngineConfig(
        model=model, dtype=case.dtype, kv_cache_dtype=case.kv, max_num_seqs=case.requests,
        max_model_len=longest, kv_cache_memory_mb=2048, enable_prefix_caching=case.shared > 0,
    ))  # fmt: skip


def row(runs: list[Run]) -> dict[str, Measure]:
    """Its line."""
    line = {
        "rate": Measure(values=[run.tokens / run.seconds for run in runs], unit="tok/s"),
        "took": Measure(values=[run.seconds for run in runs], unit="s"),
    }
    steps = [median(run.steps) for run in runs if run.steps]
    if not steps:
        return line
    line["decode step"] = Measure(values=[1e3 * s for s in steps], unit="ms")
    shares = [median(b / s for b, s in zip(run.bounds, run.steps, strict=True)) for run in runs]
    line["of its bound"] = Measure(values=[100 * share for share in shares], unit="%")
    for part in runs[0].parts[0]:
        values = [100 * sum(p[part] for p in run.parts) / sum(sum(p.values()) for p in run.parts)
                  for run in runs]  # fmt: skip
        line[part] = Measure(values=values, unit="%")
    return line


def run_all(a: argparse.Namespace, chosen: list[tuple[str, Case]]) -> dict[str, list[Run]]:
    """Repeats of all cases, each case with an engine of its own."""
    probe = LimitProbe(cpu.choose_tier("auto"), cpu.allowed_threads())
    found: dict[str, list[Run]] = {}
    for number in range(a.repeats):
        for model, case in chosen:
            engine = engine_of(model, case)
            measured(engine, WARM_UP, 1 << 20, probe)
            run = measured(engine, case, number, probe)
            found.setdefault(case.id, []).append(run)
            print(f"{number + 1}/{a.repeats} {case.id}: {run.tokens / run.seconds:.0f} tok/s",
                  flush=True)  # fmt: skip
    return found


def main() -> int:
    """Measure, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--large", type=Path, help="where the random 1B model is, or is made")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="write docs/results/steps.json")
    a = parser.parse_args()
    chosen = [(a.model, case) for case in cases(SCENES) if a.only in case.id]
    if a.large:
        chosen += [(str(a.large), case) for case in cases(LARGE) if a.only in case.id]
        if not (a.large / "config.json").is_file():
            make("llama3.2-1b", a.large)
    table = {name: row(runs) for name, runs in run_all(a, chosen).items()}
    print("\n" + render(table))
    if a.record:
        about = {"model": a.model, "large": "random Llama 3.2 1B shape", "repeats": a.repeats}
        notes = "Shares are of all time with work; the bound is told in benchmarks/steps.py."
        save("steps", "Whole steps in process", about, table, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
