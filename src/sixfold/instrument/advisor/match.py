"""From what hurts to the strategies that answer it: what was typed, and the cards in order.

Pure functions over the cards, which are the only source: the command line, the docs and the
explorer show what this returns. Not here: the cards' texts (strategies/), what measurements say
is wrong.
"""

import re
from difflib import get_close_matches
from typing import Literal

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.strategies import CARDS, COMPLAINTS, CONSTRAINTS, ENGINES, STAGES, Card, Knob

NEAR = 0.75
"""How alike a misspelt word must be to one that is known, as difflib counts."""


class Question(msgspec.Struct, frozen=True):
    """A constraint, or a complaint in plain words."""

    kind: Literal["constraint", "complaint"]
    text: str


class Switch(msgspec.Struct, frozen=True):
    """How an engine is told, as arguments and in words."""

    engine: str
    on: str
    off: str | None
    default: bool
    words: str


class Technique(msgspec.Struct, frozen=True, kw_only=True):
    """What a card says to someone who chooses."""

    name: str
    slug: str
    status: str
    effective_when: str
    not_when: str
    costs: str
    metric: str
    switches: tuple[Switch, ...]
    stage: int
    """Counted from 1."""
    stage_name: str


class Match(msgspec.Struct, frozen=True):
    """A technique as an answer. A `strength` of 1 is its main use, more is a lesser one."""

    technique: Technique
    why: str
    strength: int


class Step(msgspec.Struct, frozen=True):
    """A stage of adoption, counted from 1, and what is adopted then."""

    stage: int
    name: str
    what: str
    techniques: tuple[Technique, ...]


QUESTIONS: tuple[Question, ...] = (
    *(Question("constraint", name) for name in CONSTRAINTS),
    *(Question("complaint", name) for name in COMPLAINTS),
)
"""All that can be asked, constraints first."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "first-token latency": ("ttft", "first token", "time to first token", "prefill"),
    "inter-token latency": (
        "itl", "tpot", "tbt", "inter token", "time per output token", "time between tokens",
        "decode", "decode latency", "streaming speed",
    ),
    "throughput": (
        "tok s", "tokens s", "tokens per second", "tps", "req s", "requests per second", "rps",
        "qps",
    ),
    "concurrency": ("users", "concurrent users", "parallel requests", "max num seqs"),
    "model scale": (
        "model size", "large model", "too large", "too big", "does not fit", "model does not fit",
        "weights",
    ),
    "cost": ("price", "money", "dollars", "cost per token", "cheaper", "budget"),
    "TTFT spikes at peak": ("peak", "queue", "queueing", "waiting", "overload", "ttft p95"),
    "decode slows as conversations grow": (
        "long context", "long contexts", "long conversations", "context length", "slow decode",
    ),
    "KV cache pressure": (
        "oom", "out of memory", "memory", "kv", "kv cache", "kv cache full", "preemption",
        "preemptions", "eviction", "evictions", "retraction",
    ),
    "tail latency jumps": (
        "p99", "p95", "p999", "tail", "jitter", "stalls", "stutter", "interference", "ttft p99",
        "itl p99", "tpot p99",
    ),
    "hardware idles between bursts": (
        "idle", "idles", "idling", "bursty", "utilisation", "utilization", "gpu utilisation",
        "gpu utilization", "low utilisation", "low utilization", "underused",
    ),
    "which parallelism?": (
        "tp", "dp", "pp", "ep", "parallel", "sharding", "multi gpu", "more gpus",
        *(card.name for card in CARDS if card.family == "parallelism"),
    ),
}  # fmt: skip
"""What people write for it, in the form that `plain` gives."""


def plain(text: str) -> str:
    """Small letters and digits, with single spaces for all else: "Tok/s" -> "tok s"."""
    return re.sub(r"[^a-z0-9]+", " ", text.casefold()).strip()


_BY_TEXT = {question.text: question for question in QUESTIONS}
_CHOICES = {plain(text): text for text in _BY_TEXT}
_NAMES = {word: text for text, words in SYNONYMS.items() for word in words} | _CHOICES


def parse(text: str) -> Question:
    """The constraint or complaint that was meant: by name, synonym, beginning, words, or nearly.

    Raises ConfigError where nothing is like it, or several are.
    """
    typed = plain(text)
    for look in (_named, _begun, _holding, _near):
        found = look(typed) if typed else []
        if len(found) == 1:
            return _BY_TEXT[found[0]]
        if found:
            raise ConfigError(f"{text!r} may be {' or '.join(found)}", "write one of them")
    raise ConfigError(
        f"no constraint or symptom is like {text!r}", f"choose: {', '.join(_BY_TEXT)}"
    )


def _named(typed: str) -> list[str]:
    return [_NAMES[typed]] if typed in _NAMES else []


def _begun(typed: str) -> list[str]:
    return [text for name, text in _CHOICES.items() if name.startswith(typed)]


def _holding(typed: str) -> list[str]:
    """Those that have a word that begins like each word that was typed."""
    return [
        text
        for name, text in _CHOICES.items()
        if all(any(word.startswith(part) for word in name.split()) for part in typed.split())
    ]


def _near(typed: str) -> list[str]:
    return [_NAMES[name] for name in get_close_matches(typed, _NAMES, n=1, cutoff=NEAR)]


def engine_named(text: str) -> str:
    """The engine as cards name it: "llama.cpp" -> llamacpp. Raises ConfigError."""
    engine = plain(text).replace(" ", "")
    if engine not in ENGINES:
        raise ConfigError(f"no switches are known of {text!r}", f"choose: {', '.join(ENGINES)}")
    return engine


def matches(question: Question, engine: str | None = None) -> tuple[Match, ...]:
    """The techniques that answer it, best first; with `engine`, those it has a switch for.

    Their main use comes before lesser ones; then what is built before what is planned, what is
    adopted early before what is adopted late, and what is on by default before what is not.
    """
    found = [
        Match(technique_of(card, engine), _why(question, card), place + 1)
        for place, card in _ranked(question)
        if engine is None or engine in card.knobs
    ]
    return tuple(found)


def adoption(engine: str | None = None) -> tuple[Step, ...]:
    """Every stage with what is adopted then."""
    return tuple(
        Step(
            number + 1,
            stage.name,
            stage.what,
            tuple(t for t in techniques(engine) if t.stage == number + 1),
        )
        for number, stage in enumerate(STAGES)
    )


def techniques(engine: str | None = None) -> tuple[Technique, ...]:
    """All, in the families' order; with `engine`, those it has a switch for."""
    return tuple(technique_of(c, engine) for c in CARDS if engine is None or engine in c.knobs)


def technique_of(card: Card, engine: str | None = None) -> Technique:
    """What a card says, with the switches of all engines or of one."""
    return Technique(
        name=card.name,
        slug=card.slug,
        status=card.status,
        effective_when=card.pays,
        not_when=card.not_when,
        costs=card.costs,
        metric=card.metric,
        switches=tuple(
            Switch(name, knob.on, knob.off, knob.on_by_default, switch_words(knob))
            for name, knob in card.knobs.items()
            if engine in (None, name)
        ),
        stage=card.stage + 1,
        stage_name=STAGES[card.stage].name,
    )


def switch_words(knob: Knob) -> str:
    """A switch in one line: "on by default; off: --disable-radix-cache"."""
    on = knob.on or ("built in" if knob.off is None else "on by default")
    on += " (default)" if knob.default and knob.on else ""
    if knob.off is None:
        return on
    return f"{on}; off: {knob.off or 'leave it out'}"


def _ranked(question: Question) -> list[tuple[int, Card]]:
    found = [(_uses(question, card).index(question.text), card) for card in _answering(question)]

    def rank(entry: tuple[int, Card]) -> tuple[int, bool, int, bool]:
        place, card = entry
        own = card.knobs.get("sixfold")
        default = own is not None and own.on_by_default
        return place, card.implemented is None, card.stage, not default

    return sorted(found, key=rank)


def _answering(question: Question) -> list[Card]:
    return [card for card in CARDS if question.text in _uses(question, card)]


def _uses(question: Question, card: Card) -> tuple[str, ...]:
    return card.relieves if question.kind == "constraint" else tuple(card.answers)


def _why(question: Question, card: Card) -> str:
    """A complaint's own sentence; for a constraint, what the card relieves."""
    return dict[str, str](card.answers.items()).get(question.text, card.bottleneck)
