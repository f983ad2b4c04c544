"""Synthetic engines: what a configuration scores, misses and how it fails, with noise on top."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from sixfold.instrument.tuner.space import Condition, Coupled, Parameter, Space
from sixfold.instrument.tuner.trial import Trial, TrialResult, Tuner

Truth = Callable[[dict], tuple[float, float, str]]


@dataclass(frozen=True)
class Landscape:
    """`truth` gives a configuration's mean score, its violation, and why it fails, if it does."""

    name: str
    space: Space
    truth: Truth
    noise: float

    def run(self, config: dict, rng: random.Random) -> TrialResult:
        score, violation, failure = self.truth(config)
        if failure:
            return TrialResult(failure=failure)
        factor = math.exp(rng.gauss(0, self.noise))
        missed = violation + rng.gauss(0, self.noise) if violation else 0.0
        return TrialResult(score=score * factor, violation=missed)

    def value(self, config: dict) -> float:
        score, violation, failure = self.truth(config)
        return 0.0 if failure or violation > 0 else score

    def optimum(self) -> float:
        return max(self.value(config) for config in self.space.configurations())

    def reached(self, tuner: Tuner, seed: int) -> float:
        """The part of the best feasible mean score that a search's pick has."""
        rng = random.Random(f"{self.name}{seed}")
        while (trial := tuner.ask()) is not None:
            tuner.tell(trial, self.run(trial.config, rng))
        pick: Trial | None = tuner.best()
        return self.value(pick.config) / self.optimum() if pick else 0.0


def _batching(c: dict) -> tuple[float, float, str]:
    """Throughput saturates in slots, chunks trade off; slots times tokens run out of memory."""
    slots, tokens = c["max_num_seqs"], c["max_num_batched_tokens"]
    if slots * tokens > 256 * 4096:
        return 0.0, 0.0, "out of memory"
    rate = 40 * slots / (slots + 24) * (1 + 0.12 * c["prefix_caching"])
    rate *= math.exp(-0.06 * (math.log2(tokens) - 10.5) ** 2)
    return rate, 0.0, ""


def _latency(c: dict) -> tuple[float, float, str]:
    """More slots give more goodput, until the objective on ITL breaks; chunks decide when."""
    slots, chunk = c["max_num_seqs"], c["chunk"]
    rate = 10 * slots**0.7 / (1 + 0.25 * abs(math.log2(chunk / 512)))
    itl = 0.012 * (1 + slots / 32) * (1 + chunk / 2048) * (0.8 if c["cuda_graphs"] else 1)
    violation = itl / 0.03 - 1
    return rate, violation if abs(violation) > 0.02 else math.copysign(0.02, violation), ""


def _speculation(c: dict) -> tuple[float, float, str]:
    """Draft lengths interact with the batch: good for few slots, a loss for many."""
    gain = 1.0
    if c["method"] != "off":
        accept = 0.72 if c["method"] == "eagle" else 0.5
        k = c["draft"]
        length = (1 - accept ** (k + 1)) / (1 - accept)
        gain = length / (1 + 0.06 * k + 0.004 * k * c["max_num_seqs"])
    return 20 * gain * c["max_num_seqs"] ** 0.55, 0.0, ""


def _parallel(c: dict) -> tuple[float, float, str]:
    """tp*dp are coupled; a memory share too high fails, two of the backends hardly differ."""
    if c["memory"] > 0.92 and c["tp"] == 1:
        return 0.0, 0.0, "did not start"
    comm = {1: 1.0, 2: 0.93, 4: 0.8, 8: 0.62}[c["tp"]]
    fits = 1 - math.exp(-4 * (c["memory"] * c["tp"] ** 0.6 - 0.4))
    backend = {"flash": 1.0, "triton": 0.985, "torch": 0.7}[c["backend"]]
    return 100 * comm * fits * backend, 0.0, ""


def _plateau(c: dict) -> tuple[float, float, str]:
    """Flat beyond a knee, in both; only one switch matters there, and one never does."""
    rate = 30 * min(1.0, c["threads"] / 8) * min(1.0, (c["block"] / 16) ** 0.3)
    return rate * (1.08 if c["pin"] else 1.0) * (0.9 if c["threads"] > 16 else 1.0), 0.0, ""


def _needle(c: dict) -> tuple[float, float, str]:
    """A broad hill with one configuration near its top that is a tenth better."""
    x, y = math.log2(c["slots"]) - 5, c["layers"] / 8 - 2
    rate = 50 * math.exp(-0.03 * x * x - 0.05 * y * y + 0.02 * x * y)
    return rate * (1.1 if (c["slots"], c["layers"], c["kv"]) == (64, 16, "fp8") else 1.0), 0.0, ""


def _powers(low: int, high: int) -> tuple[int, ...]:
    return tuple(2**i for i in range(low, high + 1))


_switch = (False, True)
LANDSCAPES = (
    Landscape(
        "batching",
        Space(
            (
                Parameter("max_num_seqs", _powers(3, 8), ordered=True),
                Parameter("max_num_batched_tokens", _powers(9, 13), ordered=True),
                Parameter("prefix_caching", _switch),
            )
        ),
        _batching,
        0.03,
    ),
    Landscape(
        "latency",
        Space(
            (
                Parameter("max_num_seqs", (8, 16, 24, 32, 48, 64, 96, 128), ordered=True),
                Parameter("chunk", _powers(8, 11), ordered=True),
                Parameter("cuda_graphs", _switch),
            )
        ),
        _latency,
        0.02,
    ),
    Landscape(
        "speculation",
        Space(
            (
                Parameter("method", ("off", "ngram", "eagle")),
                Parameter(
                    "draft",
                    (1, 2, 3, 4, 6, 8),
                    ordered=True,
                    only_if=(Condition("method", ("ngram", "eagle")),),
                ),
                Parameter("max_num_seqs", (1, 2, 4, 8, 16), ordered=True),
            )
        ),
        _speculation,
        0.03,
    ),
    Landscape(
        "parallel",
        Space(
            (
                Coupled(("tp", "dp"), ((1, 8), (2, 4), (4, 2), (8, 1))),
                Parameter("memory", (0.6, 0.7, 0.8, 0.9, 0.95), ordered=True),
                Parameter("backend", ("flash", "triton", "torch")),
                Parameter("log", _switch),
            )
        ),
        _parallel,
        0.03,
    ),
    Landscape(
        "plateau",
        Space(
            (
                Parameter("threads", _powers(0, 5), ordered=True),
                Parameter("block", _powers(2, 6), ordered=True),
                Parameter("pin", _switch),
                Parameter("huge_pages", _switch),
            )
        ),
        _plateau,
        0.05,
    ),
    Landscape(
        "needle",
        Space(
            (
                Parameter("slots", _powers(2, 8), ordered=True),
                Parameter("layers", (0, 8, 16, 24, 32), ordered=True),
                Parameter("kv", ("bf16", "fp8"), lossy=("fp8",)),
            )
        ),
        _needle,
        0.02,
    ),
)
