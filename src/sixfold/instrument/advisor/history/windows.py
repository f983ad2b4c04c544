"""Windows of a history: what counters and histograms gained over a stretch, how gauges stood.

What is not sound is left out, and said: counters that fall without a restart, or all the time (an
address behind which several servers answer), metrics that were renamed on the way, fractions
above 1. Not here: which stretches (prometheus.py).
"""

from collections.abc import Iterator, Sequence

import msgspec

from sixfold.instrument.advisor.endpoint import TELLING, labels
from sixfold.instrument.advisor.history.past import Grid, Span, plain
from sixfold.instrument.advisor.history.promql import Expressions, Part, Source
from sixfold.instrument.advisor.history.roster import Roster, Scope, Seen
from sixfold.instrument.advisor.history.told import Asker, Cells, Key, Told, key_of, track
from sixfold.instrument.advisor.window import Setting, Window
from sixfold.instrument.backends.scrape import Histogram, Sample, Scrape

SENTINELS = ("generation_tokens", "prompt_tokens")
"""Counters whose falls tell of restarts; else the first that there is."""
BEATS = ("num_requests_running", "num_requests_waiting")
"""Gauges whose samples tell how often a replica was scraped."""
TRACKED = ("ttft", "tpot", "itl", "prompt", "output", "e2e")
"""Histograms whose means are wanted for each step."""
FRACTIONS = ("kv_cache_usage", "prefix_hit_rate")
ANEW = 0.2
"""A counter that fell by a restart was right after it below this part of what it had been."""
OFTEN = 0.02
"""Of the samples: a counter that falls more often is no counter of one server."""
FEW = 3
COVERED = 0.9
"""Of the samples of a replica, those that a metric must have whose name may have changed."""
CONSISTENT = 0.05
Pair = tuple[dict[int, float], dict[int, float]]
NAME = frozenset({"__name__"})


class Windows:
    """Takes windows of all replicas at once."""

    def __init__(self, asker: Asker, roster: Roster, scope: Scope) -> None:
        self._asker = asker
        self._roster = roster
        self._odd: dict[Key, list[int]] = {}
        unmodelled = tuple(m for m in scope.matchers if m.label != "model_name")
        self._settings = Expressions(unmodelled)
        found = roster.catalogue
        chosen = next((m for m in SENTINELS if any(s.metric == m for s in found.counters)), None)
        counters = [s for s in found.counters if chosen in (None, s.metric)]
        self._sentinels = counters or [
            Source("count", 0, f"{source.name}_count") for source in found.histograms[:1]
        ]

    def steps(self, grid: Grid) -> Told:
        """What is wanted for each step: gauges, tokens, moments of histograms.

        It is asked first: windows know by it which falls of counters were no restarts.
        """
        found, seconds = self._roster.catalogue, grid.step
        expressions = self._asker.expressions
        parts = [expressions.level(source, seconds) for source in found.gauges]
        parts += [expressions.grown(s, seconds) for s in found.counters if s.metric in SENTINELS]
        for source in found.histograms:
            if source.metric in TRACKED:
                parts += expressions.moments(source, seconds)
        for source in self._sentinels:
            # Two steps, so that no fall is between them.
            parts += expressions.soundness(source, 2 * seconds)
        told = self._asker.over(parts, grid)
        self._odd = {key: self._odd_falls(cells, grid) for key, cells in told.items()}
        return told

    def levels(self, grid: Grid) -> Told:
        """Gauges alone."""
        parts = [self._asker.expressions.level(s, grid.step) for s in self._roster.catalogue.gauges]
        return self._asker.over(parts, grid)

    def over(self, span: Span, gauges: Told) -> dict[Key, "Taken"]:
        """A window for each replica over that stretch, with gauges that are known already."""
        seconds = span.end - span.start
        told = self._asker.at(list(self._parts(seconds)), span.end)
        settings = self._told_settings(span.end)
        taken = {}
        for seen in self._roster.seen:
            cells = told.get(seen.key, {})
            why = self._unsound(seen.key, cells, span)
            window = _window(seen, cells, gauges.get(seen.key, {}), not why)
            notes = (*([why] if why else []), *window.notes)
            window = msgspec.structs.replace(
                window, seconds=float(seconds), settings=settings.get(seen.key, {}), notes=notes
            )
            taken[seen.key] = Taken(
                window, not why, int(self._sentinel(cells, "falls").get(0, 0.0))
            )
        return taken

    def _parts(self, seconds: int) -> Iterator[Part]:
        found, expressions = self._roster.catalogue, self._asker.expressions
        names: dict[str, int] = {}
        for source in found.counters:
            names[source.metric] = names.get(source.metric, 0) + 1
            yield expressions.grown(source, seconds)
        for source in found.histograms:
            names[source.metric] = names.get(source.metric, 0) + 1
            yield from expressions.moments(source, seconds)
            yield expressions.buckets(source, seconds)
        for source in self._sentinels:
            yield expressions.soundness(source, seconds)[0]
        for source in found.gauges:
            if source.metric in BEATS:
                yield expressions.samples(source, seconds)
        for source in found.counters:
            if names[source.metric] > 1:
                yield expressions.samples(source, seconds)
        for source in found.histograms:
            if names[source.metric] > 1:
                counted = msgspec.structs.replace(source, name=f"{source.name}_count")
                yield expressions.samples(counted, seconds)

    def _sentinel(self, cells: Cells, kind: str) -> dict[int, float]:
        return track(cells, kind, self._sentinels[0].metric) if self._sentinels else {}

    def _odd_falls(self, cells: Cells, grid: Grid) -> list[int]:
        """Times at which a counter fell, but not to begin anew."""
        least, most = self._sentinel(cells, "least"), self._sentinel(cells, "most")
        return [
            grid.first + step * grid.step
            for step, falls in self._sentinel(cells, "falls").items()
            if falls and least.get(step, 0.0) > ANEW * most.get(step, 0.0)
        ]

    def _unsound(self, key: Key, cells: Cells, span: Span) -> str:
        """Why what was counted can't be believed; empty if it can."""
        falls = self._sentinel(cells, "falls").get(0, 0.0)
        if falls >= FEW and falls > OFTEN * _beats(cells):
            return (
                f"its counters fell {falls:.0f} times (does one address answer for several "
                "servers?): what it counted is left out"
            )
        if falls and any(span.start < time <= span.end for time in self._odd.get(key, ())):
            return "a counter fell, but not to begin anew: what it counted is left out"
        return ""

    def _told_settings(self, time: int) -> dict[Key, dict[str, Setting]]:
        """Settings that stand in the labels of metrics, where all of a replica's ranks agree."""
        engine = self._roster.engine
        if engine not in TELLING:
            return {}
        drop = {seen.key: seen.labels | NAME for seen in self._roster.seen}
        found: dict[Key, dict[str, Setting]] = {}
        unlike: set[tuple[Key, str]] = set()
        for row in self._asker.rows(self._settings.named(TELLING[engine]), time):
            key = key_of(row.labels)
            if key not in drop:
                continue
            kept = {k: plain(text) for k, text in row.labels.items() if k not in drop[key]}
            page = Scrape({name: (Sample(kept, 1.0),) for name in TELLING[engine]}, {})
            for name, value in labels(page, engine).items():
                if found.setdefault(key, {}).setdefault(name, value) != value:
                    unlike.add((key, name))
        for key, name in unlike:
            del found[key][name]
        return found


class Taken(msgspec.Struct, frozen=True):
    """A window, and what is to be known of it."""

    window: Window
    sound: bool
    """What was counted can be believed."""
    falls: int
    """Of its counters."""


def _window(seen: Seen, cells: Cells, levels: Cells, sound: bool) -> Window:
    notes: list[str] = []
    gauges = _gauges(levels, notes)
    grown: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    for (kind, metric), ranks in cells.items() if sound else ():
        if kind not in ("grown", "count") or not ranks:
            continue
        rank = min(ranks)
        if _renamed(cells, kind, metric, rank):
            notes.append(f"{metric} changed its name on the way: it is left out")
        elif kind == "grown":
            grown[metric] = ranks[rank][0]
        elif (found := _histogram(cells, metric, rank, notes)) is not None:
            histograms[metric] = found
    return Window(
        name=seen.name,
        engine=seen.engine,
        model=seen.model,
        gauges=gauges,
        grown=grown,
        histograms=histograms,
        notes=tuple(notes),
    )


def _gauges(levels: Cells, notes: list[str]) -> dict[str, list[float]]:
    found = {}
    for kind, metric in levels:
        if kind != "level":
            continue
        values = track(levels, kind, metric)
        if metric in FRACTIONS and max(values.values(), default=0.0) > 1.01:
            notes.append(f"{metric} is above 1, so no fraction: it is left out")
        elif values:
            found[metric] = [values[step] for step in sorted(values)]
    return found


def _beats(cells: Cells) -> float:
    """Samples within the window, by the gauge that has most of them."""
    return max((track(cells, "samples", beat).get(0, 0.0) for beat in BEATS), default=0.0)


def _renamed(cells: Cells, kind: str, metric: str, rank: int) -> bool:
    """It has several names, and the one that counts was there for a part of the time only."""
    ranks = cells.get(("samples", metric), {})
    if not ranks:
        return False
    own = ranks.get(rank, {}).get(0, 0.0)
    whole = max(_beats(cells), *(values.get(0, 0.0) for values in ranks.values()))
    return len(cells[kind, metric]) > 1 and own < COVERED * whole


def _histogram(cells: Cells, metric: str, rank: int, notes: list[str]) -> Histogram | None:
    """None where nothing was observed, or its parts do not go together."""
    count = cells["count", metric][rank].get(0, 0.0)
    total = cells.get(("sum", metric), {}).get(rank, {}).get(0)
    if total is None or count <= 0:
        return None
    buckets, most = {}, 0.0
    bounds = cells.get(("bucket", metric), {}).get(rank, {})
    for bound in sorted(bounds):
        # Growth is extrapolated per bucket, so it may dip by a little.
        most = buckets[bound] = max(most, bounds[bound])
    if buckets and abs(most - count) > CONSISTENT * max(most, count):
        notes.append(f"the buckets of {metric} do not add up: it is left out")
        return None
    return Histogram(total, count, buckets)


def beats_of(sources: Sequence[Source]) -> list[Source]:
    """By what a replica's samples are counted: the first metric there is."""
    for metric in (*BEATS, *SENTINELS):
        if found := [source for source in sources if source.metric == metric]:
            return found
    return list(sources[:1])


def pairs(told: Told, keys: Sequence[Key], metric: str) -> list[Pair]:
    """Sums and counts of a histogram by step, of each replica."""
    return [
        (track(told[key], "sum", metric), track(told[key], "count", metric))
        for key in keys
        if key in told
    ]
