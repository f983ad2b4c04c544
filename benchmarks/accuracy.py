"""What quantisation costs: perplexity and divergence from float32 on the same weights.

The text is Python's own documentation as every interpreter carries it (pydoc's topics), in windows
of 512 tokens. The yardstick is 8-bit activations in blocks of 32 without columns kept in bf16, on
weights in groups of 32, computed in NumPy. What is done of a model is kept in build/ for the commit
that it ran on: the same command goes on after Ctrl-C.
"""

import argparse
import json
import math
import pydoc_data.topics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recording import ROOT, lines_of, save
from sixfold.core.config import GROUP_SIZE
from sixfold.core.record import Measure, git_state
from sixfold.engine.kernels import reference
from sixfold.engine.kernels.packing import PackedWeight, pack_w8, quantise_w8
from sixfold.engine.models.checkpoint import open_checkpoint
from sixfold.engine.models.registry import resolve, sixfold_home
from sixfold.engine.models.tokenizer import load_tokenizer
from sixfold.engine.models.weights import Weights, load_weights
from sixfold.engine.scoring import Scorer, Variant
from tables import render

WINDOW = 512
TOKENS = 51_200
ROWS = 16
"""Distributions that are compared at a time: what fits into the caches."""
DTYPES = ("bf16", "int8", "int4")

Logits = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Truth:
    """float32's distributions after each token of a window but the last, of which nothing is known.

    `then` [n]: what follows; `logits` and `odds` [n, V]; `log_sums` [n]: of the exponents.
    """

    then: NDArray[np.int32]
    logits: Logits
    odds: Logits
    log_sums: NDArray[np.float64]
    top: NDArray[np.intp]

    @classmethod
    def of(cls, ids: NDArray[np.int32], logits: Logits) -> "Truth":
        """`logits` [len(ids), V]."""
        known = logits[:-1]
        log_sums = np.concatenate(in_blocks(lambda rows: log_sum_exp(known[rows]), len(known)))
        odds = np.empty_like(known)

        def fill(rows: slice) -> None:
            np.exp(known[rows] - log_sums[rows, None].astype(np.float32), out=odds[rows])

        in_blocks(fill, len(known))
        return cls(ids[1:], known, odds, log_sums, known.argmax(axis=1))


def log_sum_exp(logits: Logits) -> NDArray[np.float64]:
    """Of each row: what is summed is float32, the sum is float64."""
    peak = logits.max(axis=1)
    sums = np.exp(logits - peak[:, None]).sum(axis=1, dtype=np.float64)
    found: NDArray[np.float64] = np.log(sums) + peak
    return found


def in_blocks(work: Callable[[slice], T], rows: int) -> list[T]:
    """`work` on blocks of rows, in threads."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, (slice(at, at + ROWS) for at in range(0, rows, ROWS))))


@dataclass
class Tally:
    """Sums over all tokens of one variant."""

    count: int = 0
    surprise: float = 0.0
    divergence: float = 0.0
    agreed: float = 0.0

    def join(self, other: "Tally") -> None:
        """Take in what another one has counted."""
        self.count += other.count
        self.surprise += other.surprise
        self.divergence += other.divergence
        self.agreed += other.agreed

    @classmethod
    def of(cls, truth: Truth, ours: Logits) -> "Tally":
        """One window; `ours` [n + 1, V]."""

        def some(rows: slice) -> Tally:
            exact, found, then = truth.logits[rows], ours[:-1][rows], truth.then[rows]
            log_sums = log_sum_exp(found)
            surprise = log_sums - found[np.arange(len(then)), then]
            apart = (truth.odds[rows] * (exact - found)).sum(axis=1, dtype=np.float64)
            divergence = apart - truth.log_sums[rows] + log_sums
            agreed = truth.top[rows] == found.argmax(axis=1)
            return cls(
                len(then), float(surprise.sum()), float(divergence.sum()), float(agreed.sum())
            )

        whole = cls()
        for part in in_blocks(some, len(truth.then)):
            whole.join(part)
        return whole

    def row(self, exact: "Tally") -> dict[str, Measure]:
        """The variant's line of the table."""
        perplexity = math.exp(self.surprise / self.count)
        ratio = perplexity / math.exp(exact.surprise / exact.count) - 1
        return {
            "perplexity": Measure(values=[perplexity], unit=""),
            "to float32": Measure(values=[100 * ratio], unit="%"),
            "mean KL": Measure(values=[self.divergence / self.count], unit="nat"),
            "top 1 agrees": Measure(values=[100 * self.agreed / self.count], unit="%"),
        }


def windows(model: Path, tokens: int) -> list[NDArray[np.int32]]:
    """The text's tokens in whole windows."""
    text = "\n\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    ids = np.array(load_tokenizer(model).encode(text)[:tokens], np.int32)
    return [ids[at : at + WINDOW] for at in range(0, len(ids) - WINDOW + 1, WINDOW)]


def fine(plain: Weights, weights: Weights) -> Weights:
    """8-bit weights with wide groups, quantised anew in groups of 32."""
    found = dict(weights)
    for name, weight in weights.items():
        if isinstance(weight, PackedWeight) and weight.group != GROUP_SIZE:
            codes, scale = quantise_w8(plain[name].dense())
            found[name] = PackedWeight("w8", weight.n, weight.k, pack_w8(codes, scale))
    return found


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """The reference's activations in blocks of another size."""
    before, reference.BLOCK = reference.BLOCK, size
    try:
        yield
    finally:
        reference.BLOCK = before


def variants(a: argparse.Namespace, model: Path) -> tuple[dict[str, Scorer], dict[str, Scorer]]:
    """What is compared with float32: native ones, and the yardsticks, if they are wanted."""
    cache = sixfold_home()
    native = {f"{dtype}, {isa or 'best tier'}": Scorer(model, dtype, cache, isa)
              for dtype in DTYPES for isa in a.isa}  # fmt: skip
    native |= {f"{dtype}, int8 KV": Scorer(model, dtype, cache, variant=Variant(kv_dtype="int8"))
               for dtype in DTYPES}  # fmt: skip
    if not a.yardstick:
        return native, {}
    plain = load_weights(open_checkpoint(model), "f32", cache)
    yardstick = Variant(keep_outliers=False, edit=partial(fine, plain))
    return native, {
        f"{dtype}, blocks of 32": Scorer(model, dtype, cache, "reference", variant=yardstick)
        for dtype in DTYPES[1:]
    }


def measured(ids: NDArray[np.int32], exact: Scorer, native: dict[str, Scorer],
             slow: dict[str, Scorer]) -> dict[str, Tally]:  # fmt: skip
    """Every variant over one window; float32 is computed once."""
    logits = exact.logits(ids)
    truth = Truth.of(ids, logits)
    tallies = {"float32": Tally.of(truth, logits)}
    for name, scorer in native.items():
        tallies[name] = Tally.of(truth, scorer.logits(ids))
    with blocks_of(32):
        for name, scorer in slow.items():
            tallies[name] = Tally.of(truth, scorer.logits(ids))
    return tallies


def compare(a: argparse.Namespace, model: Path) -> dict[str, Tally]:
    """Every variant over every window that the journal does not have of this commit."""
    exact = Scorer(model, "f32", sixfold_home())
    native, slow = variants(a, model)
    totals = {name: Tally() for name in ("float32", *native, *slow)}
    journal = ROOT / "build" / f"accuracy-{Path(a.model).name}.jsonl"
    run = {"commit": list(git_state(ROOT)), "variants": list(totals)}
    kept = (json.loads(line) for line in lines_of(journal))
    done = {one["window"]: one["tallies"] for one in kept if one["run"] == run}
    some = windows(model, a.tokens)
    journal.parent.mkdir(exist_ok=True)
    with journal.open("a") as out:
        for number, ids in enumerate(some):
            if number not in done:
                found = measured(ids, exact, native, slow)
                done[number] = {name: asdict(tally) for name, tally in found.items()}
                line = {"run": run, "window": number, "tallies": done[number]}
                out.write(json.dumps(line) + "\n")
                out.flush()
            for name, sums in done[number].items():
                totals[name].join(Tally(**sums))
            print(f"\r{number + 1}/{len(some)} windows", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return totals


def main() -> int:
    """Compare, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="(%(default)s)")
    parser.add_argument("--isa", action="append", default=[], help="tiers (the best one)")
    parser.add_argument("--yardstick", action="store_true", help="compute the yardstick, too")
    parser.add_argument("--record", action="store_true", help="write docs/results/accuracy-*.json")
    a = parser.parse_args()
    a.isa = a.isa or [""]
    tallies = compare(a, resolve(a.model, sixfold_home()))
    table = {name: tally.row(tallies["float32"]) for name, tally in tallies.items()}
    print(render(table))
    if a.record:
        name = Path(a.model).name
        save(f"accuracy-{name}", f"What quantisation costs {name}",
             {"text": "pydoc's topics", "tokens": tallies["float32"].count, "window": WINDOW},
             table, "Divergence is of float32 on the same weights from each variant.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
