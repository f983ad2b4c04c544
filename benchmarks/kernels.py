"""Every kernel as a share of the limit that binds it, both measured in one process.

Each sample stands between two probes of that limit; where they differ by more than 5 %, something
else was running and the sample is dropped. Weights and KV rotate through more memory than the
caches hold, as a model's layers do. Interrupted, it goes on where it was.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median
from typing import Literal

import msgspec
import numpy as np

from kernel_cases import Attend, Gemm, attentions, gemms
from recording import RESULTS, ROOT, lines_of, save
from sixfold.core.config import RopeConfig
from sixfold.core.record import Measure
from sixfold.engine.kernels import cpu
from sixfold.engine.kernels.lower import ATTENTION, FIELDS, GEMM, Lowered
from sixfold.engine.kernels.memory import huge_buffer
from sixfold.engine.kernels.ops import LimitProbe, NativeModel, NativeOptions
from sixfold.engine.kernels.packing import (
    PANEL,
    KVDtype,
    PackedWeight,
    pack_f32,
    page_bytes,
    panel_bytes,
    round_up,
)
from sixfold.engine.kernels.program import ProgramBuilder
from sixfold.engine.runner.step_input import StepInput
from tables import render

SAMPLES, QUICK_SAMPLES = 20, 8
STEADY = 0.05
SAMPLE_SECONDS = 4e-3
FOOTPRINT = 256 << 20
"""Bytes that weights or KV rotate through: several times any last-level cache here."""
MAX_COPIES = 512
Limit = Literal["f32", "bf16", "int8", "read"]
KIND, IN, OUT = (FIELDS.index(name) for name in ("kind", "in_", "out"))


class Row(msgspec.Struct, frozen=True):
    """A case's result: shares of the limit, of all samples that were kept."""

    id: str
    limit: Limit
    shares: list[float]
    samples: int
    """Taken; those not among the shares were dropped."""
    rate: float
    """Of the median sample: 1e9 operations, or bytes, per second."""


@dataclass
class Work:
    """Something to time: `run()` does `operations` and reads `bytes` out of memory."""

    run: Callable[[], None]
    operations: float
    bytes: float
    arithmetic: Limit


def tokens(count: int) -> np.ndarray:
    """Ids that any table has."""
    return np.zeros(count, np.int32)


class Weights:
    """Memory with codes and sane scales, which every packed format can be a view of."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._data = huge_buffer(FOOTPRINT)
        values = rng.integers(0x2800, 0x3000, 1 << 20, np.uint16)  # small float16, small bfloat16
        self._data.view(np.uint16).reshape(-1, 1 << 20)[:] = values

    def copies(self, form: str, n: int, k: int) -> list[PackedWeight]:
        """As many as fit, behind one another."""
        plain, *rest = form.split("_")
        asym, group = "asym" in rest, 128 if "128" in rest else 32
        panels = round_up(n, PANEL) // PANEL
        each = panel_bytes(plain, k, asym, group)  # type: ignore[arg-type]
        count = min(MAX_COPIES, max(1, FOOTPRINT // (panels * each)))
        data = self._data[: count * panels * each].reshape(count, panels, each)
        return [PackedWeight(plain, n, k, one, asym, group=group)  # type: ignore[arg-type]
                for one in data]  # fmt: skip


def only(kind: int, low: Lowered) -> None:
    """Keep what comes before the first op of that kind, then ops of that kind, into one buffer."""
    kinds = [ints[KIND] for ints in low.ints]
    first = kinds.index(kind)
    keep = [i for i, one in enumerate(kinds) if one == kind or i < first]
    low.ints = [low.ints[i] for i in keep]
    low.doubles = [low.doubles[i] for i in keep]
    out = low.ints[first][OUT]
    for ints in low.ints[first:]:
        ints[OUT] = out
    del low.buffers[max(ints[field] for ints in low.ints for field in (IN, OUT)) + 1 :]


def gemm_work(case: Gemm, weights: Weights, isa: str, threads: int) -> Work:
    """The layer's copies, one after the other; activations are packed once before."""
    copies = weights.copies(case.form, case.n, case.k)
    b = ProgramBuilder()
    b.begin_layer()
    start = b.embed("x", case.k)
    for number in range(len(copies)):
        b.linear(start, f"w{number}", case.n)
    table = np.random.default_rng(1).normal(0, 1, (1, case.k)).astype(np.float32)
    named = {"x": PackedWeight("f32", 1, case.k, pack_f32(table))}
    named |= {f"w{number}": one for number, one in enumerate(copies)}
    options = NativeOptions(isa, threads, case.m, 1)
    model = NativeModel(b.build(), named, [], "f32", options, edit=partial(only, GEMM))
    step = StepInput(
        tokens(case.m), np.arange(case.m, dtype=np.int32), np.array([0, case.m], np.int32),
        tokens(1), [],
    )  # fmt: skip
    first = model.num_ops - len(copies)
    model.forward(step, 0, first)
    each = copies[0].data.nbytes
    arithmetic: Limit = "bf16" if case.form == "bf16" else "int8"
    return rotating(model, step, first, 2.0 * case.m * case.n * case.k, each, arithmetic)


def attention_work(case: Attend, isa: str, threads: int) -> Work:
    """One layer's attention on KV of random bits that are small numbers, in several layers."""
    blocks = -(-(case.past + case.new) // 32)
    common = int(case.past * case.shared) // 32
    table = 1 + np.arange(case.requests * blocks, dtype=np.int32).reshape(case.requests, blocks)
    table[:, :common] = table[0, :common]
    distinct = case.requests * blocks - (case.requests - 1) * common
    kv_dtype: KVDtype = "int8" if case.kv == "int8" else "bf16"
    each = distinct * case.kv_heads * page_bytes(case.head_dim, kv_dtype)
    copies = max(1, min(64, FOOTPRINT // each))
    heads = case.kv_heads * case.group
    b = ProgramBuilder()
    for _ in range(copies):
        b.begin_layer()
        qkv = b.embed("x", (heads + 2 * case.kv_heads) * case.head_dim)
        b.attention(qkv, (heads, case.kv_heads, case.head_dim), case.head_dim**-0.5,
                    RopeConfig(theta=1e4))  # fmt: skip
    values = np.random.default_rng(2).normal(0, 1, (1, qkv.width)).astype(np.float32)
    total = case.requests * case.new
    options = NativeOptions(isa, threads, total, case.past + case.new)
    model = NativeModel(
        b.build(), {"x": PackedWeight("f32", 1, qkv.width, pack_f32(values))},
        [case.requests * blocks + 1], kv_dtype, options, edit=partial(only, ATTENTION),
    )  # fmt: skip
    noise = np.random.default_rng(3).integers(0x3C00, 0x3F00, 1 << 16, np.uint16)
    arena = model.arena(0).reshape(-1).view(np.uint16)
    arena[:] = np.resize(noise, arena.shape)
    step = StepInput(
        tokens(total),
        np.tile(np.arange(case.past, case.past + case.new, dtype=np.int32), case.requests),
        np.arange(case.requests + 1, dtype=np.int32) * case.new,
        np.arange(case.requests, dtype=np.int32),
        [table],
    )
    first = model.num_ops - copies
    model.forward(step, 0, first)
    seen = case.new * case.past + case.new * (case.new + 1) / 2
    work = 4.0 * case.head_dim * heads * seen * case.requests
    return rotating(model, step, first, work, each, "int8" if kv_dtype == "int8" else "bf16")


def rotating(
    model: NativeModel,
    step: StepInput,
    first: int,
    operations: float,
    size: float,
    arithmetic: Limit,
) -> Work:
    """As many ops a go as fill a sample, through all copies in turn."""
    at = first

    def run(count: int) -> None:
        nonlocal at
        while count > 0:
            now = min(count, model.num_ops - at)
            model.forward(step, at, at + now)
            at = at + now if at + now < model.num_ops else first
            count -= now

    run(model.num_ops - first)  # pages in, threads awake
    took = min(seconds(partial(run, 1)) for _ in range(3))
    count = max(1, round(SAMPLE_SECONDS / took))
    return Work(partial(run, count), operations * count, size * count, arithmetic)


def seconds(run: Callable[[], None]) -> float:
    """Of one go."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measured(name: str, work: Work, probe: LimitProbe, samples: int) -> Row:
    """Samples between probes of the limit that binds."""
    rates: dict[Limit, float] = {"read": probe.read(), work.arithmetic: rate(probe, work)}
    in_memory, in_arithmetic = work.bytes / rates["read"], work.operations / rates[work.arithmetic]
    limit: Limit = "read" if in_memory > in_arithmetic else work.arithmetic
    look = probe.read if limit == "read" else partial(rate, probe, work)
    amount = work.bytes if limit == "read" else work.operations
    shares: list[float] = []
    taken = 0
    best = 0.0
    # A few more than asked for, where some are dropped.
    while len(shares) < samples and taken < 3 * samples:
        before = look()
        took = seconds(work.run)
        after = look()
        taken += 1
        if abs(after / before - 1) <= STEADY:
            shares.append(amount / took / ((before + after) / 2))
            best = max(before, after)
    if not shares:
        return Row(name, limit, [], taken, 0.0)
    return Row(name, limit, [round(s, 4) for s in shares], taken, median(shares) * best / 1e9)


def rate(probe: LimitProbe, work: Work) -> float:
    """Operations per second of the kind that the work is made of."""
    assert work.arithmetic != "read"
    return probe.arithmetic(work.arithmetic)


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The lines of the summary: kind, format, and the rows' range."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if not row.shares:
            continue
        words = row.id.split()
        if words[0] == "gemm":
            m = int(words[-1].removeprefix("M="))
            span = "1-2" if m <= 2 else "3-15" if m < 16 else "16-63" if m < 64 else "64-512"
            name = f"GEMM {words[1]}, M {span}"
        else:
            group = f", {words[2]}" if words[0] != "prefill" else ""
            shared = f", {words[7]}" if len(words) > 7 else ""
            name = f"attention {words[0]} {words[1]}{group}{shared}"
        found.setdefault(f"{name}, of {row.limit}", []).append(row)
    return found


def summary(rows: Sequence[Row]) -> dict[str, dict[str, Measure]]:
    """Per line: the geometric mean of medians, the worst shape, the samples kept."""
    table = {}
    for name, some in sorted(groups(rows).items()):
        shares = [median(row.shares) for row in some]
        kept = sum(len(row.shares) for row in some) / sum(row.samples for row in some)
        table[name] = {
            "mean": Measure(values=[100 * geometric_mean(shares)], unit="% of limit"),
            "worst shape": Measure(values=[100 * min(shares)], unit="% of limit"),
            "worst sample": Measure(values=[100 * min(min(r.shares) for r in some)],
                                    unit="% of limit"),
            "shapes": Measure(values=[float(len(some))], unit="cases"),
            "kept": Measure(values=[100 * kept], unit="% of samples"),
        }  # fmt: skip
    return table


def rows_of(path: Path) -> dict[str, Row]:
    """What an interrupted run has left."""
    rows = [msgspec.json.decode(line, type=Row) for line in lines_of(path)]
    return {row.id: row for row in rows}


def run_all(a: argparse.Namespace, path: Path) -> list[Row]:
    """All cases that `path` lacks, each appended as it is done."""
    cases: list[Gemm | Attend] = [*gemms(a.quick), *attentions(a.quick)]
    cases = [case for case in cases if a.only in case.id]
    have = rows_of(path)
    isa, threads = cpu.choose_tier(a.isa), a.threads or cpu.allowed_threads()
    probe, weights = LimitProbe(isa, threads), Weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        for number, case in enumerate(cases, 1):
            if case.id in have:
                continue
            work = (gemm_work(case, weights, isa, threads) if isinstance(case, Gemm)
                    else attention_work(case, isa, threads))  # fmt: skip
            row = measured(case.id, work, probe, QUICK_SAMPLES if a.quick else SAMPLES)
            have[case.id] = row
            out.write(msgspec.json.encode(row) + b"\n")
            out.flush()
            share = f"{median(row.shares):6.1%} of {row.limit}" if row.shares else "too noisy"
            kept = f"{len(row.shares)}/{row.samples} kept"
            print(f"[{number}/{len(cases)}] {case.id}: {share}, {row.rate:.0f} G/s, {kept}",
                  flush=True)  # fmt: skip
    return [have[case.id] for case in cases]


def main() -> int:
    """Measure, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--isa", default="auto", help="tier (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="(all)")
    parser.add_argument("--quick", action="store_true", help="few shapes, few samples")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    parser.add_argument("--record", action="store_true", help="write docs/results/kernels.json")
    a = parser.parse_args()
    if a.quick and a.record:
        parser.error("a quick run is no result: leave out --quick or --record")
    name = f"kernels-{a.isa}{'-quick' if a.quick else ''}"
    path = ROOT / "build" / f"{name}.jsonl"
    if a.fresh:
        path.unlink(missing_ok=True)
    try:
        rows = run_all(a, path)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here")
        return 130
    table = summary(rows)
    print("\n" + render(table))
    if a.record:
        lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        (RESULTS / "kernels.jsonl").write_bytes(lines)
        save("kernels", "Kernels against this machine's limits",
             {"samples": SAMPLES, "steady": STEADY, "tier": a.isa, "cases": len(rows)}, table,
             "Medians of each shape; a sample counts if the probes around it agree.")  # fmt: skip
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
