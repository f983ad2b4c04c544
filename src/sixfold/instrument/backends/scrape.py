"""Prometheus' text format, read with bounds, and what it says under our canonical names.

Lines that are malformed are left out and counted. Not here: fetching (base.py), the names
(aliases.py).
"""

import math
import re
from collections.abc import Mapping

import msgspec

from sixfold.instrument.backends.aliases import FULLEST, GAUGES, MEANS

MAX_BYTES = 8 << 20
MAX_SAMPLES = 200_000

# Possessive quantifiers: a hostile line must not be tried in every possible way.
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*+="(?:[^"\\]|\\.)*+"'
_LINE = re.compile(
    rf"({_NAME})(?:[ \t]*+\{{[ \t]*+((?:{_LABEL}[ \t]*+(?:,[ \t]*+|(?=\}})))*+)\}}[ \t]*+|[ \t]++)"
    r"([^\s{}]++)(?:[ \t]++-?\d++)?[ \t]*+\Z"
)
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf|nan)\Z", re.I)
_TYPE = re.compile(rf"#[ \t]+TYPE[ \t]+({_NAME})[ \t]+([a-z]+)[ \t]*\Z")


class Sample(msgspec.Struct, frozen=True):
    """One line."""

    labels: dict[str, str]
    value: float


class Histogram(msgspec.Struct, frozen=True):
    """Summed over its label sets. `buckets`: upper bound -> observations up to it, ascending."""

    sum: float
    count: float
    buckets: dict[float, float]


class Scrape(msgspec.Struct, frozen=True):
    """A page of metrics."""

    samples: dict[str, tuple[Sample, ...]]
    """By the name on the line; NaN is left out."""
    kinds: dict[str, str]
    """Name of a family -> counter, gauge, histogram, ..., where the page tells."""
    malformed: int = 0
    """Lines that could not be read."""
    truncated: bool = False
    """The page was over the bounds; its end is missing."""


def parse(page: bytes) -> Scrape:
    """Read a page. Never raises."""
    text = page[:MAX_BYTES].decode(errors="replace")
    truncated = len(page) > MAX_BYTES
    samples: dict[str, list[Sample]] = {}
    kinds: dict[str, str] = {}
    malformed = count = 0
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith("#") or not line:
            if found := _TYPE.match(line):
                kinds[found[1]] = found[2]
            continue
        if count >= MAX_SAMPLES:
            truncated = True
            break
        read = _sample(line)
        if read is None:
            malformed += 1
        elif not math.isnan(read[1].value):
            samples.setdefault(read[0], []).append(read[1])
            count += 1
    return Scrape({n: tuple(s) for n, s in samples.items()}, kinds, malformed, truncated)


def _sample(line: str) -> tuple[str, Sample] | None:
    found = _LINE.match(line)
    if found is None or not _NUMBER.match(found[3]):
        return None
    labels = {name: _unescaped(value) for name, value in _PAIR.findall(found[2] or "")}
    return found[1], Sample(labels, float(found[3]))


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


def histogram(page: Scrape, name: str) -> Histogram | None:
    """The histogram of that name; None if the page has none."""
    total, count = _sum(page, f"{name}_sum"), _sum(page, f"{name}_count")
    if total is None or count is None:
        return None
    buckets: dict[float, float] = {}
    for sample in page.samples.get(f"{name}_bucket", ()):
        bound = sample.labels.get("le", "")
        if _NUMBER.match(bound) and not math.isnan(float(bound)):
            buckets[float(bound)] = buckets.get(float(bound), 0.0) + sample.value
    return Histogram(total, count, dict(sorted(buckets.items())))


def canonical(page: Scrape, aliases: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Values under our names; what the page lacks is absent.

    Label sets (replicas, ranks, sources) are added up, or as FULLEST and MEANS have it.
    """
    values: dict[str, float] = {}
    for name, candidates in aliases.items():
        found = [got for candidate in candidates if (got := _told(page, candidate))]
        if not found:
            continue
        if name in FULLEST:
            values[name] = max(map(max, found))
        else:
            values[name] = float(sum(found[0])) / (len(found[0]) if name in MEANS else 1)
    return {name: value for name, value in values.items() if math.isfinite(value)}


def delta(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What happened between two canonical readings: counters' growth, and gauges as they are now.

    A counter that fell was reset by a restart: what it counts since then is its growth. One that
    the first reading lacks is absent, for its growth is not known.
    """
    grown = {
        name: value - before[name] if value >= before[name] else value
        for name, value in after.items()
        if name not in GAUGES and name in before
    }
    return grown | {name: after[name] for name in GAUGES if name in after}


def _told(page: Scrape, alias: str) -> list[float]:
    """Values under an alias: `name`, or `name{label=value}`; a counter's `_total` may be on it."""
    name, _, chosen = alias.partition("{")
    label, _, value = chosen.rstrip("}").partition("=")
    samples = page.samples.get(name) or page.samples.get(f"{name}_total", ())
    return [s.value for s in samples if not label or s.labels.get(label) == value]


def _values(page: Scrape, name: str) -> list[float]:
    return [s.value for s in page.samples.get(name, ())]


def _sum(page: Scrape, name: str) -> float | None:
    values = _values(page, name)
    return sum(values) if values else None
