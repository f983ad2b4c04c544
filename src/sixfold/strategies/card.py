"""The strategy card: what a strategy is, as data. Docs, command line, tuner and advisor read cards.

Cards hold no logic; `make check` resolves every path, flag and test that one names. Not here:
the strategies' code, which `implemented` points to.
"""

from typing import Literal

import msgspec

Family = Literal[
    "batching", "prefill and decode", "KV cache", "attention and memory", "parallelism", "offline"
]
ENGINES = ("sixfold", "vllm", "sglang", "llamacpp")


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
