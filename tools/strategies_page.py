"""docs/results/strategies.md and the package's measured.json: what strategies gain, from records.

Not here: measuring (benchmarks: strategies.py, speculation, attention, offload, sweeps).
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from concepts import CONCEPTS, table
from records import RESULTS
from sixfold.core.record import Measure, Record, read_record
from sixfold.strategies import CARDS
from sixfold.strategies.measured import FILE, Gain, Measured

PAGE = RESULTS / "strategies.md"
PAYS = 1.05
"""A gain from which on a strategy is said to pay."""

Rows = dict[str, dict[str, Measure]]


class Sweep(NamedTuple):
    """Rows of a record that vary one thing: `rows` are (workload, row) in its order."""

    strategy: str
    record: str
    metric: str
    rows: tuple[tuple[str, str], ...]


TEXTS = ("edit", "chat", "chat, sampled", "random tokens")
SWEEPS = (
    *(
        Sweep("speculative decoding", "speculation", "speed",
              tuple((f"{text}, {n} at once", f"{text}, {n} at once: auto") for n in (1, 4, 16)))
        for text in TEXTS
    ),
    Sweep("prefix caching", "sweep-prefix", "ratio", tuple(
        (f"{share} % common", f"32 of 1,088 tokens, {share} % common: on")
        for share in (0, 10, 25, 50, 94)
    )),
    *(
        Sweep("continuous batching", "sweep-batching", "ratio", tuple(
            (f"{size} at once, lengths {kind}", f"{size} at once, lengths {kind}: continuous")
            for kind in ("equal", "32 to 96", "exponential")
        ))
        for size in (8, 32)
    ),
    Sweep("PagedAttention", "sweep-paging", "ratio", tuple(
        (f"{length} of 2,048 tokens", f"{length} of 2,048 tokens each: paged")
        for length in ("1,984", "1,024", "512", "128")
    )),
    Sweep("FlashAttention", "attention", "of flash's time", tuple(
        (f"{length} tokens", f"{length} tokens, naive") for length in ("512", "2,048", "8,192")
    )),
    *(
        Sweep("KV offloading", "offload", "speed", tuple(
            (f"{tier}, {length} tokens", f"{tier}, {length} tokens: loaded")
            for length in ("128", "512", "2,048")
        ))
        for tier in ("disk", "memory")
    ),
    Sweep("offline batch inference", "batch-order", "of file order", (
        ("100 prefixes, room for 10, file order", "100 prefixes, 8 lines each: file order"),
        ("100 prefixes, room for 10, prefix order", "100 prefixes, 8 lines each: prefix order"),
    )),
)  # fmt: skip
PAIRS = {
    "static batching": ("output", True),
    "dynamic batching": ("TTFT p95", False),
    "continuous batching": ("TTFT p95", False),
    "chunked prefill": ("ITL p99", False),
    "prefix caching": ("TTFT p50", False),
    "PagedAttention": ("output", True),
}
"""Strategies with servers on against off: the column that counts, and whether more is better."""


def strategies_pages() -> Iterator[tuple[Path, str]]:
    """The page and the package's file, where there are records."""
    found = tuple(all_measured())
    if found:
        yield PAGE, page(found)
        yield FILE, msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n"


def all_measured() -> Iterator[Measured]:
    """In the order of the cards."""
    for card in CARDS:
        if card.name in PAIRS:
            yield from pairs(card.name, f"strategy-{card.slug}")
        for sweep in SWEEPS:
            if sweep.strategy == card.name:
                yield from swept(sweep)


def pairs(strategy: str, record: str) -> Iterator[Measured]:
    """Off and on where it suits, and where it does not."""
    if not (RESULTS / f"{record}.json").is_file():
        return
    known = read_record(RESULTS / f"{record}.json")
    column, more = PAIRS[strategy]
    gains = []
    for row, off in known.results.items():
        if not row.startswith("off"):
            continue
        on = known.results["on" + row.removeprefix("off")]
        label = row.removeprefix("off").removeprefix(": ") or known.title.partition(": ")[2]
        ratio = on[column].median / off[column].median
        gains.append(Gain(label, round(ratio if more else 1 / ratio, 3)))
    yield told(strategy, column, gains, known, "")


def swept(sweep: Sweep) -> Iterator[Measured]:
    """One thing varied."""
    path = RESULTS / f"{sweep.record}.json"
    if not path.is_file():
        return
    known = read_record(path)
    gains = [
        Gain(label, round(median(known.results[row][sweep.metric].values), 3))
        for label, row in sweep.rows if row in known.results
    ]  # fmt: skip
    if gains:
        yield told(sweep.strategy, sweep.metric, gains, known, break_even(gains))


def told(strategy: str, metric: str, gains: list[Gain], known: Record, pays: str) -> Measured:
    """With where it was measured."""
    return Measured(
        strategy=strategy, metric=metric, gains=tuple(gains), break_even=pays,
        record=known.name, machine=f"{known.machine.cpu}, {known.machine.threads} threads",
        commit=known.commit[:12], date=known.date,
    )  # fmt: skip


def break_even(gains: list[Gain]) -> str:
    """Between which workloads a gain begins, or ends; empty where all or none are gains."""
    pays = [gain.times >= PAYS for gain in gains]
    if all(pays) or not any(pays):
        return ""
    if pays[-1]:
        first = max(i for i, yes in enumerate(pays) if not yes) + 1
        return f"from {gains[first].workload}"
    last = max(i for i, yes in enumerate(pays) if yes)
    return f"up to {gains[last].workload}"


def page(found: tuple[Measured, ...]) -> str:
    """A line for each way in which a strategy was measured."""
    rows = [
        [linked(one.strategy), one.metric, said(one.best), said(one.worst),
         one.break_even or ("pays throughout" if one.worst.times >= PAYS else "-"), one.date]
        for one in found
    ]  # fmt: skip
    parts = [
        "# What each strategy gains",
        "Generated by `make docs` from the records beside this page. A gain is on over off in one "
        "run, so that 1 is no difference and more is better; the break-even is where it passes "
        f"{PAYS:g}. `sixfold strategies` prints the same.",
        table(["strategy", "by", "where it shines", "where it does not", "pays", "measured"], rows),
    ]
    for one in found:
        parts.append(f"## {one.strategy}, {one.metric}: [{one.record}](tables.md)")
        lines = [[gain.workload, f"{gain.times:.2f}"] for gain in one.gains]
        parts.append(table(["workload", "gain"], lines))
    parts += interactions()
    return "\n\n".join(parts) + "\n"


def interactions() -> list[str]:
    """Which pairs help each other, and which take each other's gain, where that was measured."""
    path = RESULTS / "interactions.json"
    if not path.is_file():
        return []
    known = read_record(path)
    rows = []
    for name, row in known.results.items():
        if "interaction" in row:
            both = median(row["interaction"].values)
            verdict = "help each other" if both >= PAYS else "cancel" if both <= 1 / PAYS else "-"
            rows.append([name, f"{median(row['of none'].values):.2f}", f"{both:.2f}", verdict])
    return [
        "## Pairs: [interactions](tables.md)",
        "Both on over neither, in one job; interaction is that over the product of what each gains "
        f"alone. {known.notes}",
        table(["pair", "both", "interaction", ""], sorted(rows, key=lambda r: -float(r[2]))),
    ]


def linked(strategy: str) -> str:
    """With its own page."""
    slug = next(card.slug for card in CARDS if card.name == strategy)
    return f"[{strategy}](../{CONCEPTS.name}/{slug}.md)"


def said(gain: Gain) -> str:
    """With its workload."""
    return f"{gain.times:.2f}: {gain.workload}"
