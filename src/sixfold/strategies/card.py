"""The strategy card: what a strategy is, as data. Docs, command line, tuner and advisor read cards.

Cards hold no logic; `make check` resolves every path, flag and test that one names. Not here:
the strategies' code, which `implemented` points to.
"""

from typing import Literal, get_args

import msgspec

Family = Literal[
    "batching", "prefill and decode", "KV cache", "attention and memory", "parallelism", "offline"
]
ENGINES = ("sixfold", "vllm", "sglang", "llamacpp")
Constraint = Literal[
    "first-token latency", "inter-token latency", "throughput", "concurrency", "model scale", "cost"
]
CONSTRAINTS: tuple[Constraint, ...] = get_args(Constraint)
Complaint = Literal[
    "TTFT spikes at peak",
    "decode slows as conversations grow",
    "KV cache pressure",
    "tail latency jumps",
    "hardware idles between bursts",
    "which parallelism?",
]
COMPLAINTS: tuple[Complaint, ...] = get_args(Complaint)
"""Symptoms in the words of those who have them."""


class Stage(msgspec.Struct, frozen=True):
    """A time in the life of a service, and what is adopted then."""

    name: str
    what: str


STAGES = (
    Stage(
        "one server, first users",
        "What engines do by default: requests share steps, and memory is taken as it is needed.",
    ),
    Stage(
        "one server, steady traffic",
        "Prompts repeat and differ in length: nothing is computed twice, nobody stalls the rest.",
    ),
    Stage(
        "one server at its limit",
        "Its reserves: idle arithmetic, memory beside the device, hours without users.",
    ),
    Stage(
        "several workers in one machine",
        "Load or model outgrow one worker: copies of it, or one model cut over fast links.",
    ),
    Stage(
        "several copies behind a router",
        "Where a request goes decides what it finds in a cache and behind whom it waits.",
    ),
    Stage(
        "several machines",
        "Layers, experts and phases are placed by the links between machines.",
    ),
)
"""The order in which teams adopt strategies as their load grows."""


class Knob(msgspec.Struct, frozen=True):
    """How an engine is told: `on` and `off` are command-line arguments.

    An empty `on` is the engine's default. `off` of None: it can't be turned off.
    """

    on: str
    off: str | None = None
    default: bool = False
    """On without a word, although there is a switch that says so."""

    @property
    def on_by_default(self) -> bool:
        """Whether it is on where no flag speaks of it."""
        return self.default or not self.on


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy. Texts are single sentences or short paragraphs."""

    name: str
    family: Family
    what: str
    """What it does."""
    knobs: dict[str, Knob]
    """Engine (ENGINES) to its switch; an engine that lacks the strategy is absent."""
    bottleneck: str
    """What it relieves."""
    symptom: str
    """How the bottleneck shows."""
    metric: str
    """The number that moves when it works."""
    pays: str
    """When it is worth turning on."""
    not_when: str
    """When it is not."""
    costs: str
    """What is paid for it: memory, others' latency, complexity, quality."""
    stage: int
    """When teams adopt it: an index of STAGES."""
    relieves: tuple[Constraint, ...]
    """What it relieves, the strongest effect first."""
    answers: dict[Complaint, str]
    """Complaint to when this is the answer to it; the one that it answers best comes first."""
    lossless: bool = True
    """Greedy output is the same, token for token, on and off."""
    implemented: str | None = None
    """Dotted path of the object that does it in this build; None: planned."""
    equality_test: str | None = None
    """path::test that holds on equal to off."""
    benchmark: str | None = None
    """Script that measures on against off."""

    @property
    def status(self) -> str:
        """built, or planned."""
        return "planned" if self.implemented is None else "built"

    @property
    def slug(self) -> str:
        """The name as files have it: "prefix caching" -> prefix-caching."""
        return self.name.lower().replace(" ", "-")
