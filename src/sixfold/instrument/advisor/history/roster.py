"""Who is in a history: which engine's metrics there are, under which names, of which replicas.

Several engines, or several models, are an error: what is right for one is wrong for the other.
Not here: values (told.py), the tables of names (backends/aliases.py).
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.history.api import NARROWER, Api, RefusalError, Row
from sixfold.instrument.advisor.history.past import duration, listed, plain
from sixfold.instrument.advisor.history.promql import Catalogue, Expressions, Matcher, catalogue
from sixfold.instrument.advisor.history.told import Key, Notes, key_of
from sixfold.instrument.telemetry.engine import FAMILIES, HINT

MAX_REPLICAS = 64
MARKERS = 3
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_ENDINGS = ("_bucket", "_sum", "_count", "_created")
CHOOSE = "take one: --match '{}=\"{}\"'"


class Seen(msgspec.Struct, frozen=True):
    """A replica."""

    key: Key
    engine: str
    model: str
    labels: frozenset[str]
    """Names of the labels that its plain series have."""

    @property
    def name(self) -> str:
        """What it is called in texts."""
        return plain(self.key[1]) or "the only instance"


class Roster(msgspec.Struct, frozen=True):
    """All replicas, and the metrics that they have."""

    engine: str
    model: str
    catalogue: Catalogue
    seen: tuple[Seen, ...]


class Scope(msgspec.Struct, frozen=True):
    """Where to look: the series that match, within a time."""

    matchers: tuple[Matcher, ...]
    start: int
    end: int

    @property
    def expressions(self) -> Expressions:
        """Under the matchers."""
        return Expressions(self.matchers)


def discover(api: Api, scope: Scope, notes: Notes) -> Roster:
    """Find them. Raises ConfigError where there is no engine, or more than one kind of replica."""
    expressions = scope.expressions
    told = api.names(expressions.families(FAMILIES), scope.start, scope.end)
    names = {name for name in told if _NAME.match(name) and name.startswith(tuple(FAMILIES))}
    families = [prefix for prefix in FAMILIES if any(n.startswith(prefix) for n in names)]
    found = catalogue(names, _tables(families))
    if not found.names:
        raise _unknown(api, scope, names)
    markers = sorted(n for n in names if n.startswith("sixfold:") and not n.endswith(_ENDINGS))[
        :MARKERS
    ]
    every = expressions.named([*found.names, *markers], scope.end - scope.start)
    rows = api.instant(f"last_over_time({every})", scope.end)
    seen = _once(_replicas(rows, families), notes)
    if not seen:
        raise _unknown(api, scope, names)
    if len(seen) > MAX_REPLICAS:
        raise ConfigError(f"{len(seen)} replicas, at most {MAX_REPLICAS} at once", NARROWER)
    jobs = sorted({one.key[0] for one in seen})
    if len(jobs) > 1:
        shown = listed([plain(job) for job in jobs])
        notes.add(f"replicas of {len(jobs)} jobs are taken together: {shown}")
    return Roster(_only(seen, "engine"), _only(seen, "model"), found, seen)


def _tables(families: Iterable[str]) -> list[Mapping[str, tuple[str, ...]]]:
    tables: list[Mapping[str, tuple[str, ...]]] = []
    for prefix in families:
        table = FAMILIES[prefix][1]
        if not any(table is other for other in tables):
            tables.append(table)
    return tables


def _replicas(rows: Sequence[Row], families: Sequence[str]) -> list[Seen]:
    by_key: dict[Key, list[Mapping[str, str]]] = {}
    for row in rows:
        by_key.setdefault(key_of(row.labels), []).append(row.labels)
    replicas = []
    for key, series in sorted(by_key.items()):
        names = {labels.get("__name__", "") for labels in series}
        prefix = next((p for p in families if any(n.startswith(p) for n in names)), families[0])
        models = sorted({labels["model_name"] for labels in series if labels.get("model_name")})
        if len(models) > 1:
            raise _several("models", "model_name", models)
        model = models[0] if models else ""
        drop = frozenset(label for labels in series for label in labels)
        replicas.append(Seen(key, FAMILIES[prefix][0], model, drop))
    return replicas


def _once(replicas: Sequence[Seen], notes: Notes) -> tuple[Seen, ...]:
    """Of an instance that several jobs scrape, the first one."""
    by_instance: dict[str, Seen] = {}
    for one in replicas:
        kept = by_instance.setdefault(one.key[1], one)
        if kept is not one:
            jobs = f"{plain(kept.key[0])} and {plain(one.key[0])}"
            notes.add(f"{one.name} is scraped by the jobs {jobs}: only the first one counts")
    return tuple(sorted(by_instance.values(), key=lambda one: one.key[1]))


def _only(seen: Sequence[Seen], what: str) -> str:
    """The engine or model of all; a replica without a model's name goes with any."""
    values = sorted({getattr(one, what) for one in seen} - {""})
    if len(values) < 2:
        return str(values[0]) if values else ""
    if what == "model":
        raise _several("models", "model_name", values)
    jobs = sorted({one.key[0] for one in seen if one.engine == values[0]})
    raise _several("engines", "job", values, jobs[0])


def _several(what: str, label: str, values: Sequence[str], example: str = "") -> ConfigError:
    shown = listed([plain(value) for value in values])
    chosen = plain(example or values[0]).replace("'", "")
    return ConfigError(f"metrics of {len(values)} {what}: {shown}", CHOOSE.format(label, chosen))


def _unknown(api: Api, scope: Scope, names: Collection[str]) -> ConfigError:
    """What to say where no engine is found: by what the names of the metrics there begin with."""
    known = ", ".join(dict.fromkeys(engine for engine, _ in FAMILIES.values()))
    hint = f"known are {known}; {HINT}"
    span = duration(scope.end - scope.start)
    if names:
        shown = listed([plain(name) for name in sorted(names)])
        return ConfigError(f"{api.url}: nothing that tells the load in {span}, only {shown}", hint)
    inside = ", ".join(map(str, scope.matchers))
    where = f" that match {plain(inside)}" if inside else ""
    try:
        there = api.names(f"{{{inside}}}" if inside else "", scope.start, scope.end)
    except RefusalError:
        there = frozenset()
    begins = Counter(re.split(r"(?<=[:_])", name, maxsplit=1)[0] for name in there)
    most = listed([plain(text, 40) for text, _ in begins.most_common(6)], 6)
    instead = f"; names there begin with {most}" if most else "; there are no metrics at all"
    return ConfigError(f"{api.url}: no engine's metrics{where} in {span}{instead}", hint)
