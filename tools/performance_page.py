"""docs/results/performance.md: kernels against limits, steps against bounds, and what is aimed at.

Not here: measuring (benchmarks/kernels.py, steps.py, accuracy.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from records import RESULTS, record_section
from sixfold.core.record import Measure, read_record

PAGE = RESULTS / "performance.md"
INTRO = """# Performance

Generated from the records beside this page by `make docs`. Every figure is a share of a limit that
was probed in the same process, around the very sample; what missed its goal says so.
"""
GOALS = (
    ("GEMM w4, M 64-512, of int8", 75, "groups of 32: 75 %"),
    ("GEMM w4_128, M 64-512, of int8", 80, "groups of 64 or more: 80 %"),
    ("GEMM w4_asym, M 64-512, of int8", 75, "groups of 32: 75 %"),
    ("GEMM w4, M 16-63, of int8", 70, "70 %"),
    ("GEMM w4_128, M 16-63, of int8", 70, "70 %"),
    ("GEMM w8_128, M 64-512, of int8", 82, "the 8 bits that we make: 82 %"),
    ("GEMM bf16, M 64-512, of bf16", 93, "93 % from 16 rows on"),
    ("GEMM bf16, M 16-63, of bf16", 93, "93 % from 16 rows on"),
    ("GEMM w4, M 1-2, of read", 90, "90 % of read bandwidth"),
    ("GEMM w4_128, M 1-2, of read", 90, "90 % of read bandwidth"),
    ("GEMM w8, M 1-2, of read", 90, "90 % of read bandwidth"),
    ("GEMM bf16, M 1-2, of read", 90, "90 % of read bandwidth"),
    ("attention prefill D=64, of bf16", 68, "68 %"),
    ("attention prefill D=128, of bf16", 80, "80 %"),
    ("attention prefill D=256, of bf16", 80, "80 %"),
    ("attention decode D=64, group=4, of read", 85, "85 % of read bandwidth"),
    ("attention decode D=128, group=4, of read", 85, "85 % of read bandwidth"),
    ("attention decode D=64, group=4, shared=100%, of bf16", 75, "over what is shared: 75 %"),
)
"""Line of the kernels' record, share of the limit in %, in words."""


class PeerGoal(NamedTuple):
    """Ours against the best of the others in a scene, by one of its figures."""

    scene: str
    ours: str
    others: tuple[str, ...]
    ratio: float
    figure: str
    """Of both; of seconds the ratio is ours over theirs, else the same: at most, or at least."""


LLAMA = {"bf16": ("llama.cpp bf16",), "int8": ("llama.cpp Q8_0",), "int4": ("llama.cpp Q4_0",)}
BENCH = {dtype: (who[0].replace("llama.cpp", "llama-bench"),) for dtype, who in LLAMA.items()}
BOTH = ("vLLM bf16", "OpenVINO bf16")
EIGHT = ("vLLM bf16", "OpenVINO int8")
PEER_GOALS = (
    *(PeerGoal("A", f"sixfold {dtype}", LLAMA[dtype], 1.3, "decoding") for dtype in LLAMA),
    *(
        PeerGoal("A", f"sixfold in process {dtype}", BENCH[dtype], ratio, "decoding")
        for dtype, ratio in (("bf16", 1.15), ("int8", 1.5), ("int4", 1.4))
    ),
    PeerGoal("B", "sixfold in process bf16", BOTH, 1.25, "prefill"),
    PeerGoal("B", "sixfold in process int8", EIGHT, 1.45, "prefill"),
    PeerGoal("C", "sixfold in process bf16", BOTH, 1.4, "output"),
    PeerGoal("C", "sixfold in process int8", EIGHT, 1.8, "output"),
    PeerGoal("D16", "sixfold bf16", ("vLLM bf16",), 1.6, "output"),
    PeerGoal("D32", "sixfold bf16", ("vLLM bf16",), 1.4, "output"),
    PeerGoal("D16", "sixfold int8", ("vLLM bf16",), 2.3, "output"),
    PeerGoal("D32", "sixfold int8", ("vLLM bf16",), 2.3, "output"),
    PeerGoal("D16", "sixfold bf16", ("vLLM bf16",), 0.85, "ttft p99"),
    PeerGoal("D32", "sixfold bf16", ("vLLM bf16",), 0.85, "ttft p99"),
    PeerGoal("D16", "sixfold int8", ("vLLM bf16",), 0.5, "ttft p99"),
    PeerGoal("D32", "sixfold int8", ("vLLM bf16",), 0.5, "ttft p99"),
    PeerGoal("E", "sixfold bf16", ("vLLM bf16",), 1 / 2.2, "took"),
    PeerGoal("E", "sixfold bf16", ("vLLM bf16",), 1 / 2.3, "warm"),
    PeerGoal("E", "sixfold int8", ("vLLM bf16",), 1 / 3, "took"),
    PeerGoal("E", "sixfold int8", ("vLLM bf16",), 1 / 3, "warm"),
    PeerGoal("F", "sixfold bf16", ("vLLM bf16",), 3.0, "decoding"),
    PeerGoal("F", "sixfold bf16, int8 KV", ("OpenVINO bf16", "OpenVINO int8"), 3.5, "decoding"),
)
LARGE_GOALS = (
    PeerGoal("decode", "sixfold in process int8", ("llama-bench Q8_0",), 1.4, "decoding"),
    PeerGoal("decode", "sixfold in process int4", ("llama-bench Q4_0",), 1.25, "decoding"),
    PeerGoal(
        "prefill",
        "sixfold in process int8",
        ("llama-bench Q8_0", "llama-bench Q4_0"),
        3.0,
        "prefill",
    ),
    PeerGoal("16 streams", "sixfold in process bf16", ("vLLM bf16",), 1.5, "decoding"),
    PeerGoal("16 streams", "sixfold in process int8", ("vLLM bf16",), 2.5, "decoding"),
)


SCENES = (
    ("A: one stream, tokens/s while decoding", "A", "decoding"),
    ("B: a prompt of 2,048, tokens/s", "B", "prefill"),
    ("C: 64 at once, output tokens/s", "C", "output"),
    ("D32: 32 clients, output tokens/s", "D32", "output"),
    ("E: 32 that share 1,024 tokens, seconds", "E", "took"),
    ("F: 8 of 4,096 tokens, tokens/s while decoding", "F", "decoding"),
)
ENGINES = {
    "sixfold bf16": ("sixfold bf16",), "sixfold int8": ("sixfold int8, int8 KV", "sixfold int8"),
    "llama.cpp bf16": ("llama.cpp bf16",), "llama.cpp Q8_0": ("llama.cpp Q8_0",),
    "vLLM bf16": ("vLLM bf16",), "OpenVINO int8": ("OpenVINO int8",),
}  # fmt: skip
"""Columns of the table beside other engines: whose figure stands there, the first that has one."""


def beside(results: Mapping[str, Mapping[str, Measure]]) -> str:
    """A line for each scene, a column for each engine: medians of all rounds."""
    lines = ["| | " + " | ".join(ENGINES) + " |", "| --- |" + " ---: |" * len(ENGINES)]
    for title, scene, figure in SCENES:
        cells = []
        for names in ENGINES.values():
            rows = [results.get(f"{scene}: {name}", {}) for name in names]
            known = [row[figure].median for row in rows if figure in row]
            cells.append(f"{known[0]:,.3g}" if known else "-")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


GATES = (
    ("int8, best tier", "mean KL", "int8, blocks of 32"),
    ("int4, best tier", "mean KL", "int4, blocks of 32"),
    ("int4, best tier", "to float32", "0.3 %"),
    ("bf16, int8 KV", "to float32", "0.3 %"),
)
"""Row of an accuracy record, its figure, and the row or the share of perplexity it may not pass."""


def performance_pages() -> Iterator[tuple[Path, str]]:
    """The page, where there is a record."""
    if (RESULTS / "kernels.json").is_file():
        yield PAGE, "\n\n".join(parts()) + "\n"


def parts() -> Iterator[str]:
    """Goals first, then the records whole."""
    results = read_record(RESULTS / "kernels.json").results
    yield INTRO.rstrip()
    yield "## Goals\n\n" + "\n".join(goal_lines(
        {name: row["mean"].values[0] for name, row in results.items()}
    ))  # fmt: skip
    if accuracy := sorted(RESULTS.glob("accuracy-*.json")):
        yield "## Accuracy\n\n" + "\n".join(gate_lines(accuracy))
    for name, goals in (("peers-smollm2-135m", PEER_GOALS), ("peers-1b", LARGE_GOALS)):
        if (RESULTS / f"{name}.json").is_file():
            yield f"## Beside other engines, {name.removeprefix('peers-')}\n\n" + "\n".join(
                peer_lines(read_record(RESULTS / f"{name}.json").results, goals)
            )
    for name in (
        "kernels",
        "steps",
        *sorted(p.stem for p in RESULTS.glob("peers-*.json")),
        *(path.stem for path in accuracy),
    ):
        if (RESULTS / f"{name}.json").is_file():
            yield record_section(name, "##")


def gate_lines(paths: Iterable[Path]) -> Iterator[str]:
    """A table: what quantisation may cost, and what it does."""
    yield "| model | format | figure | at most | measured | |"
    yield "| --- | --- | --- | ---: | ---: | --- |"
    for path in paths:
        rows = read_record(path).results
        for name, figure, limit in GATES:
            most = rows[limit][figure].median if limit in rows else float(limit.removesuffix(" %"))
            found = rows[name][figure].median
            what = "perplexity over float32's" if figure == "to float32" else f"{figure}, {limit}"
            unit = " %" if figure == "to float32" else ""
            said = "met" if found <= most else "**missed**"
            model = path.stem.removeprefix("accuracy-")
            yield (f"| {model} | {name} | {what} | {most:.3g}{unit} | {found:.3g}{unit} | {said} |")


def goal_lines(means: Mapping[str, float]) -> list[str]:
    """A table: the line, its goal, what was measured."""
    lines = ["| kernel | goal | geometric mean of all shapes | |", "| --- | --- | ---: | --- |"]
    for name, share, words in GOALS:
        if name in means:
            said = "met" if means[name] >= share else "**missed**"
            lines.append(f"| {name} | {words} | {means[name]:.0f} % | {said} |")
    return lines


def peer_lines(
    results: Mapping[str, Mapping[str, Measure]], goals: Iterable[PeerGoal]
) -> list[str]:
    """A table: ours, the best of the others, the ratio and its goal. Medians of all rounds."""
    lines = ["| scene | ours | | best of the others | | ratio | goal | |",
             "| --- | --- | ---: | --- | ---: | ---: | ---: | --- |"]  # fmt: skip
    for goal in goals:
        rows = {who: results.get(f"{goal.scene}: {who}", {}) for who in (goal.ours, *goal.others)}
        have = {who: row[goal.figure] for who, row in rows.items() if goal.figure in row}
        if goal.ours not in have or len(have) < 2:
            continue
        ours = have.pop(goal.ours)
        less = ours.unit == "s"
        best = (min if less else max)(have, key=lambda who: have[who].median)
        ratio = ours.median / have[best].median
        met = ratio <= goal.ratio if less else ratio >= goal.ratio
        sign, said = "≤" if less else "≥", "met" if met else "**missed**"
        cells = (
            f"{goal.scene}, {goal.figure}", goal.ours, f"{ours.median:,.4g} {ours.unit}", best,
            f"{have[best].median:,.4g} {ours.unit}", f"{ratio:.2f}", f"{sign} {goal.ratio:.2f}",
            said,
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines
