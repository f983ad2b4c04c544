"""docs/results/performance.md: kernels against limits, steps against bounds, and what is aimed at.

Not here: measuring (benchmarks/kernels.py, steps.py, accuracy.py).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from records import RESULTS, record_section

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


def performance_pages() -> Iterator[tuple[Path, str]]:
    """The page, where there is a record."""
    if (RESULTS / "kernels.json").is_file():
        yield PAGE, "\n\n".join(parts()) + "\n"


def parts() -> Iterator[str]:
    """Goals first, then the records whole."""
    from sixfold.core.record import read_record

    results = read_record(RESULTS / "kernels.json").results
    yield INTRO.rstrip()
    yield "## Goals\n\n" + "\n".join(goal_lines(
        {name: row["mean"].values[0] for name, row in results.items()}
    ))  # fmt: skip
    for name in ("kernels", "steps", *sorted(p.stem for p in RESULTS.glob("accuracy-*.json"))):
        if (RESULTS / f"{name}.json").is_file():
            yield record_section(name, "##")


def goal_lines(means: Mapping[str, float]) -> list[str]:
    """A table: the line, its goal, what was measured."""
    lines = ["| kernel | goal | geometric mean of all shapes | |", "| --- | --- | ---: | --- |"]
    for name, share, words in GOALS:
        if name in means:
            said = "met" if means[name] >= share else "**missed**"
            lines.append(f"| {name} | {words} | {means[name]:.0f} % | {said} |")
    return lines
