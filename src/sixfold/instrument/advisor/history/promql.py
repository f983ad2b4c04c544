"""PromQL for an engine's history: the matchers that a user gives, and expressions over its metrics.

A matcher is parsed and written anew, so nothing that was typed reaches a server unread. Several
expressions go as one query, each tagged, so that few are asked. Not here: asking (api.py), what
the answers mean (told.py).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.aliases import (
    COUNTERS,
    FULLEST,
    GAUGES,
    HISTOGRAMS,
    MEANS,
    TOKEN_HISTOGRAMS,
)

BY = "job, instance, model_name"
TAG = "sixfold_part"
MAX_QUERY = 3000
"""Characters; a proxy may refuse URLs that are much longer."""
MAX_MATCHERS = 16
MAX_MATCH = 1000
RESERVED = ("__name__", "le", TAG)
"""Labels that queries here set themselves."""
HINT = "such as: --match 'job=\"vllm\"'"

_MATCHER = re.compile(
    r'\s*([a-zA-Z_]\w*+)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*+)"|([\w.:/@+-]++))\s*(?:,|\Z)',
    re.ASCII,
)


class Matcher(msgspec.Struct, frozen=True):
    """A condition on a label."""

    label: str
    sign: str
    """=, !=, =~ or !~."""
    value: str

    def __str__(self) -> str:
        return f"{self.label}{self.sign}{quoted(self.value)}"


def quoted(text: str) -> str:
    """A string of PromQL."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def parse_matchers(texts: Iterable[str]) -> tuple[Matcher, ...]:
    """Read `job="vllm", pod=~"a.*"`, each text one or several. Raises ConfigError.

    Braces around them and quotes around plain words may be left out.
    """
    found: list[Matcher] = []
    for text in texts:
        body = text.strip()
        if len(body) > MAX_MATCH:
            raise ConfigError(f"a matcher of {len(body)} characters", f"at most {MAX_MATCH}")
        if body.startswith("{") and body.endswith("}"):
            body = body[1:-1].strip()
        at = 0
        while at < len(body) or not body:
            one = _MATCHER.match(body, at)
            if one is None:
                raise ConfigError(f"{text!r} is no matcher of labels", HINT)
            found.append(_matcher(one, text))
            at = one.end()
    if len(found) > MAX_MATCHERS:
        raise ConfigError(f"{len(found)} matchers", f"at most {MAX_MATCHERS}")
    return tuple(found)


def _matcher(one: re.Match[str], text: str) -> Matcher:
    label, sign, inner, bare = one.groups()
    if label in RESERVED:
        raise ConfigError(f"{label} can't be matched", "match job, instance or model_name")
    value = bare if inner is None else re.sub(r'\\([\\"])', r"\1", inner)
    if inner is not None and re.search(r'\\(?![\\"])', inner.replace("\\\\", "")):
        raise ConfigError(f"{text!r}: a lone backslash", "write two for one, as in PromQL")
    if not value.isprintable():
        raise ConfigError(f"{text!r}: a value that can't be printed", HINT)
    return Matcher(label, sign, value)


class Source(msgspec.Struct, frozen=True):
    """A name under which a server has a metric."""

    metric: str
    """Canonical; short for a histogram (aliases.py)."""
    rank: int
    """Of several names, the lowest counts."""
    name: str
    labels: tuple[Matcher, ...] = ()
    """Only the series that have these."""


class Catalogue(msgspec.Struct, frozen=True):
    """What a server has of what is known."""

    counters: tuple[Source, ...] = ()
    gauges: tuple[Source, ...] = ()
    histograms: tuple[Source, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of series that tell who is there, no histogram's buckets among them."""
        plain = [source.name for source in (*self.counters, *self.gauges)]
        counts = [f"{source.name}_count" for source in self.histograms]
        return tuple(dict.fromkeys([*plain, *counts]))


def catalogue(names: Collection[str], tables: Sequence[Mapping[str, tuple[str, ...]]]) -> Catalogue:
    """Look up the aliases of the engines' tables among the names that a server has."""
    merged = {
        metric: [alias for table in tables for alias in table.get(metric, ())]
        for metric in (*COUNTERS, *GAUGES)
    }
    plain = {metric: tuple(_sources(metric, aliases, names)) for metric, aliases in merged.items()}
    histograms = [
        Source(short, rank, name)
        for short, candidates in (HISTOGRAMS | TOKEN_HISTOGRAMS).items()
        for rank, name in enumerate(candidates)
        if f"{name}_count" in names and f"{name}_sum" in names
    ]
    return Catalogue(
        tuple(source for metric in COUNTERS for source in plain[metric]),
        tuple(source for metric in GAUGES for source in plain[metric]),
        tuple(histograms),
    )


def _sources(metric: str, aliases: Iterable[str], names: Collection[str]) -> Iterator[Source]:
    """Each alias with and without a counter's `_total`; its `{label=value}` as a matcher."""
    rank = 0
    for alias in dict.fromkeys(aliases):
        base, _, chosen = alias.partition("{")
        label, _, value = chosen.rstrip("}").partition("=")
        labels = (Matcher(label, "=", value),) if label else ()
        for name in (base, f"{base}_total"):
            if name in names:
                yield Source(metric, rank, name, labels)
                rank += 1


class Part(msgspec.Struct, frozen=True):
    """One expression of a query, and what its values are."""

    kind: str
    metric: str
    rank: int
    text: str

    @property
    def tag(self) -> str:
        """What marks its rows in the answer."""
        return f"{self.kind}:{self.metric}:{self.rank}"

    def __str__(self) -> str:
        return f'label_replace({self.text}, "{TAG}", "{self.tag}", "", "")'


class Expressions:
    """Expressions over stretches of time, under a user's matchers."""

    def __init__(self, matchers: Sequence[Matcher] = ()) -> None:
        self._matchers = tuple(matchers)

    def named(self, names: Iterable[str], seconds: int = 0) -> str:
        """Every series of these names."""
        pattern = "|".join(names)
        return self._selector("", (Matcher("__name__", "=~", pattern),), seconds)

    def families(self, prefixes: Iterable[str]) -> str:
        """Every series whose name begins so."""
        return self.named([f"(?:{'|'.join(prefixes)}).+"])

    def grown(self, source: Source, seconds: int) -> Part:
        """A counter's growth; resets are counted as Prometheus does it."""
        return self._over("grown", "sum", "increase", source, seconds)

    def level(self, source: Source, seconds: int) -> Part:
        """A gauge's mean over time, put together over ranks and pools as aliases.py has it."""
        joined = "max" if source.metric in FULLEST else "avg" if source.metric in MEANS else "sum"
        return self._over("level", joined, "avg_over_time", source, seconds)

    def samples(self, source: Source, seconds: int) -> Part:
        """How often it was scraped."""
        return self._over("samples", "max", "count_over_time", source, seconds)

    def soundness(self, source: Source, seconds: int) -> tuple[Part, ...]:
        """How often a counter fell, and its least and greatest value."""
        return (
            self._over("falls", "max", "resets", source, seconds),
            self._over("least", "min", "min_over_time", source, seconds),
            self._over("most", "max", "max_over_time", source, seconds),
        )

    def moments(self, source: Source, seconds: int) -> tuple[Part, Part]:
        """The growth of a histogram's sum and count."""
        return (
            self._over("sum", "sum", "increase", source, seconds, "_sum"),
            self._over("count", "sum", "increase", source, seconds, "_count"),
        )

    def buckets(self, source: Source, seconds: int) -> Part:
        """The growth of each of a histogram's buckets."""
        selector = self._selector(f"{source.name}_bucket", source.labels, seconds)
        text = f"sum by (le, {BY}) (increase({selector}))"
        return Part("bucket", source.metric, source.rank, text)

    def density(self, source: Source, block: int, seconds: int) -> Part:
        """Samples in the block of that many seconds that holds most of them."""
        selector = self._selector(source.name, source.labels, block)
        text = f"max(max_over_time(count_over_time({selector})[{seconds}s:{block}s]))"
        return Part("density", source.metric, source.rank, text)

    def _over(
        self, kind: str, joined: str, function: str, source: Source, seconds: int, suffix: str = ""
    ) -> Part:
        selector = self._selector(f"{source.name}{suffix}", source.labels, seconds)
        text = f"{joined} by ({BY}) ({function}({selector}))"
        return Part(kind, source.metric, source.rank, text)

    def _selector(self, name: str, labels: Sequence[Matcher], seconds: int) -> str:
        inside = ", ".join(map(str, (*labels, *self._matchers)))
        braces = f"{{{inside}}}" if inside else ""
        return f"{name}{braces}" + (f"[{seconds}s]" if seconds else "")


def unions(parts: Iterable[Part]) -> Iterator[tuple[str, dict[str, Part]]]:
    """Queries of bounded length that ask for all parts, each with its parts by tag."""
    texts: list[str] = []
    tags: dict[str, Part] = {}
    for part in parts:
        text = str(part)
        if texts and sum(map(len, texts)) + len(text) > MAX_QUERY:
            yield " or ".join(texts), tags
            texts, tags = [], {}
        texts.append(text)
        tags[part.tag] = part
    if texts:
        yield " or ".join(texts), tags
