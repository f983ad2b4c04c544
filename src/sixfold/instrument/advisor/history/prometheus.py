"""The history of engines as a Prometheus has it: replicas, their busiest stretch, trends.

    past = History("http://127.0.0.1:9090", match='job="vllm"').look(24 * 3600)
    for replica in past.replicas:
        if replica.peak is not None:
            readings = of_window(replica.peak, slo)

All times are the server's. What the server does not tell, or tells in a way that is not sound, is
absent, and a line of `notes` says so. Not here: HTTP (api.py), PromQL (promql.py), what a window
means (evidence.py).
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.history.api import Api
from sixfold.instrument.advisor.history.past import Grid, Past, Replica, duration, listed
from sixfold.instrument.advisor.history.promql import parse_matchers
from sixfold.instrument.advisor.history.roster import Roster, Scope, Seen, discover
from sixfold.instrument.advisor.history.told import Asker, Key, Notes, Told, track
from sixfold.instrument.advisor.history.trends import (
    Stretch,
    added,
    busiest,
    mean_of,
    quiet,
    trends,
)
from sixfold.instrument.advisor.history.windows import Taken, Windows, beats_of, pairs

MIN_WINDOW, MAX_WINDOW = 300, 31 * 86400
MIN_PEAK, MAX_PEAK = 300, 900
"""Seconds of the busiest stretch: a 144th of the window, within these."""
STEPS = 2880
"""About as many in a window at most, and none shorter than LEAST_STEP."""
LEAST_STEP = 60
SCRAPES = 4
"""Samples in a step at least: growth is estimated from them."""
BLOCK = 600
UNKNOWN_INTERVAL = 60.0
SKEW = 5.0
"""Seconds by which clocks may differ unsaid."""
THERE = 0.8
"""Of a stretch, the part in which a replica must have been scraped to be judged by it."""
SHARE = 0.9
"""Of the window; what was scraped less is said."""
WORK = ("num_requests_running", "num_requests_waiting", "num_requests_swapped",
        "num_grammar_waiting")  # fmt: skip
LOADS = (
    ("level", "num_requests_running", "requests running and waiting"),
    ("grown", "generation_tokens", "tokens generated per step"),
    ("level", "generation_rate", "tokens generated per second"),
)
"""What the load is told by: the first that every replica has."""


class History:
    """A server of Prometheus' API.

    `match`: label matchers, such as 'job="vllm"', in one text or several. `token_env`: the name of
    the environment variable that holds a bearer token. `clock`: this machine's, to compare with.
    Raises ConfigError for what can't be used.
    """

    def __init__(
        self,
        url: str,
        match: str | Iterable[str] = (),
        token_env: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = Api(url, token_env)
        self._matchers = parse_matchers([match] if isinstance(match, str) else match)
        self._clock = clock

    def look(self, window_s: float, end: float | None = None) -> Past:
        """What happened in the last `window_s` seconds, or in those before `end` (since the epoch).

        Raises ConfigError where the server does not answer, has no engine's metrics, or has those
        of several engines or models; a query that fails later costs what it asks for, and a note.
        """
        if not MIN_WINDOW <= window_s <= MAX_WINDOW:
            span = f"{duration(MIN_WINDOW)} to {duration(MAX_WINDOW)}"
            raise ConfigError(f"a window of {window_s:g} s", f"take {span}")
        notes = Notes()
        self._api.start()
        now = self._now(notes)
        last = now if end is None else end
        if not 0 < last <= now + LEAST_STEP:
            raise ConfigError("the window ends in the future", "by the server's clock")
        scope = Scope(self._matchers, int(last - window_s), int(last))
        roster = discover(self._api, scope, notes)
        keys = [seen.key for seen in roster.seen]
        asker = Asker(self._api, scope.expressions, keys)
        grid = _grid(scope, _interval(asker, roster, scope, notes), notes)
        past = _Look(Windows(asker, roster, scope), roster, grid, notes).past(end is None)
        self._remarks(asker, notes)
        return msgspec.structs.replace(past, notes=notes.lines)

    def _now(self, notes: Notes) -> float:
        """The server's time; a difference to this machine's is said, for both show times."""
        before = self._clock()
        now = self._api.now()
        after = self._clock()
        off = (before + after) / 2 - now
        if abs(off) > SKEW + abs(after - before):
            side = "ahead of" if off > 0 else "behind"
            text = f"this machine's clock is {duration(abs(off))} {side} the server's"
            notes.add(f"{text}: the server's counts")
        return now

    def _remarks(self, asker: Asker, notes: Notes) -> None:
        failed = list(dict.fromkeys(asker.failed))
        if failed:
            number = len(asker.failed)
            notes.add(f"{number} queries failed, what they ask for is missing: {failed[0]}")
        if self._api.lost:
            notes.add(f"{self._api.lost} values were no numbers (NaN, Inf): they are left out")
        for warning in list(dict.fromkeys(self._api.warnings))[:3]:
            notes.add(f"the server warns: {warning}")
        if self._api.exposed:
            notes.add("the token goes to the server unencrypted: use https")


def _interval(asker: Asker, roster: Roster, scope: Scope, notes: Notes) -> float:
    """Seconds between scrapes, where they were densest."""
    found = roster.catalogue
    seconds = max(BLOCK, scope.end - scope.start)
    most = 0.0
    for source in beats_of((*found.gauges, *found.counters)):
        part = asker.expressions.density(source, BLOCK, seconds)
        for row in asker.rows(part.text, scope.end):
            most = max(most, *(value for _, value in row.values), 0.0)
    if most < 1:
        notes.add(f"how often it was scraped is not known: {UNKNOWN_INTERVAL:.0f} s assumed")
        return UNKNOWN_INTERVAL
    return BLOCK / most


def _grid(scope: Scope, interval: float, notes: Notes) -> Grid:
    """Steps at multiples of their length, as servers that cache have them."""
    seconds = scope.end - scope.start
    least = max(LEAST_STEP, SCRAPES * interval, seconds / STEPS)
    step = LEAST_STEP * math.ceil(least / LEAST_STEP - 0.01)
    count = max(1, seconds // step)
    end = scope.end // step * step
    if step > MIN_PEAK and step > seconds / STEPS + LEAST_STEP:
        every = duration(interval)
        notes.add(f"scraped every {every}: a peak shorter than {duration(step)} can't be seen")
    return Grid(end - count * step, step, count)


class _Look:
    """One look, when it is known who is there."""

    def __init__(self, windows: Windows, roster: Roster, grid: Grid, notes: Notes) -> None:
        self._windows = windows
        self._roster = roster
        self._grid = grid
        self._notes = notes
        self._steps = windows.steps(grid)
        self._there = {seen.key: _there(self._steps, seen.key) for seen in roster.seen}
        self._known = set().union(*self._there.values())

    def past(self, until_now: bool) -> Past:
        """All of it."""
        grid, roster = self._grid, self._roster
        self._time(until_now)
        load_by, load = self._load()
        width = min(grid.count, self._width())
        peak = busiest(load, width)
        calm = self._quiet(load, peak) if peak else None
        if peak is None:
            self._notes.add(f"no peak: {'there was no load' if load_by else 'nothing tells it'}")
        whole = grid.span(0, grid.count, _mean(load, load) if load else None)
        taken = self._windows.over(whole, self._steps)
        at_peak, at_quiet = self._stretch(peak), self._stretch(calm)
        for seen in roster.seen:
            self._say(seen, taken[seen.key], peak, at_peak.get(seen.key))
        self._shares()
        sound = [seen.key for seen in roster.seen if taken[seen.key].sound]
        return Past(
            engine=roster.engine,
            model=roster.model,
            whole=whole,
            step=grid.step,
            load_by=load_by,
            peak=grid.span(peak.first, peak.width, peak.load) if peak else None,
            quiet=grid.span(calm.first, calm.width, calm.load) if calm else None,
            replicas=tuple(
                self._replica(seen, taken[seen.key], at_peak, at_quiet) for seen in roster.seen
            ),
            trends=trends(self._means(sound)),
            notes=self._notes.lines,
        )

    def _width(self) -> int:
        seconds = min(MAX_PEAK, max(MIN_PEAK, self._grid.step * self._grid.count / 144))
        return max(1, round(seconds / self._grid.step))

    def _replica(
        self, seen: Seen, whole: Taken, peak: Mapping[Key, Taken], quiet: Mapping[Key, Taken]
    ) -> Replica:
        key = seen.key
        return Replica(
            name=seen.name,
            job=key[0],
            engine=seen.engine,
            model=seen.model,
            share=len(self._there[key]) / len(self._known) if self._known else 0.0,
            restarts=whole.falls if whole.sound else 0,
            whole=whole.window,
            peak=peak[key].window if key in peak else None,
            quiet=quiet[key].window if key in quiet else None,
        )

    def _load(self) -> tuple[str, dict[int, float]]:
        """What the load is told by, and the load of all replicas for each step."""
        there = [key for key, steps in self._there.items() if steps]
        for kind, metric, words in LOADS:
            if there and all((kind, metric) in self._steps[key] for key in there):
                metrics = WORK if metric in WORK else (metric,)
                load = added([track(self._steps[k], kind, m) for k in there for m in metrics])
                if words != LOADS[0][2]:
                    self._notes.add(f"the peak is found by {words}: not all tell of requests")
                return words, load
        return "", {}

    def _quiet(self, load: Mapping[int, float], peak: Stretch) -> Stretch | None:
        """By the load per replica: one that is not scraped is no calm."""
        number = added([dict.fromkeys(steps, 1.0) for steps in self._there.values()])
        each = {step: value / number[step] for step, value in load.items()}
        found = quiet(each, Stretch(peak.first, peak.width, _mean(each, peak.steps)))
        if found is None:
            return None
        return Stretch(found.first, found.width, _mean(load, found.steps))

    def _stretch(self, stretch: Stretch | None) -> dict[Key, Taken]:
        """Windows over a stretch, of the replicas that were there for most of it."""
        if stretch is None:
            return {}
        span = self._grid.span(stretch.first, stretch.width)
        fine = max(1, self._grid.step // SCRAPES)
        gauges = self._windows.levels(Grid(span.start, fine, (span.end - span.start) // fine))
        taken = self._windows.over(span, gauges)
        least = THERE * stretch.width
        return {
            key: one
            for key, one in taken.items()
            if len(self._there[key].intersection(stretch.steps)) >= least
        }

    def _means(self, keys: Sequence[Key]) -> dict[str, dict[int, float]]:
        """Means for each step, over all replicas whose counters are sound."""
        steps = self._steps
        tpot = mean_of(pairs(steps, keys, "tpot")) or mean_of(pairs(steps, keys, "itl"))
        prompt = mean_of(pairs(steps, keys, "prompt"))
        output = mean_of(pairs(steps, keys, "output"))
        context = {step: prompt[step] + output[step] for step in prompt.keys() & output.keys()}
        if not context:
            context = self._context_by_counters(keys)
        return {
            "tpot": tpot,
            "ttft": mean_of(pairs(steps, keys, "ttft")),
            "context": context,
            "running": _average(steps, keys, "num_requests_running"),
            "waiting": _average(steps, keys, "num_requests_waiting"),
        }

    def _context_by_counters(self, keys: Sequence[Key]) -> dict[int, float]:
        """Tokens over finished requests, where no histogram tells of requests' lengths."""
        found = []
        for key in keys:
            cells = self._steps.get(key, {})
            prompt, output = (
                track(cells, "grown", f"{w}_tokens") for w in ("prompt", "generation")
            )
            tokens = {step: prompt[step] + output[step] for step in prompt.keys() & output.keys()}
            found.append((tokens, track(cells, "count", "e2e")))
        return mean_of(found)

    def _time(self, until_now: bool) -> None:
        """Where the server itself knows nothing."""
        grid, notes = self._grid, self._notes
        if not self._known:
            notes.add("no sample within the window")
            return
        first, last = min(self._known), max(self._known)
        early, late = first * grid.step, (grid.count - 1 - last) * grid.step
        if early >= max(2 * grid.step, 0.05 * grid.step * grid.count):
            notes.add(f"nothing is known of the first {duration(early)} of the window")
        if late >= max(2 * grid.step, MIN_PEAK):
            since = "of the last" if until_now else "at the end, of"
            notes.add(f"nothing is known {since} {duration(late)}: is it still scraped?")
        missing = last - first + 1 - len(self._known)
        if missing > (1 - SHARE) * (last - first + 1):
            notes.add(f"gaps in between: {duration(missing * grid.step)} without any sample")

    def _say(self, seen: Seen, whole: Taken, peak: Stretch | None, at_peak: Taken | None) -> None:
        """What is to be said of one replica."""
        notes, name = self._notes, seen.name
        if whole.sound and whole.falls:
            times = "once" if whole.falls == 1 else f"{whole.falls} times"
            notes.add(f"{name} was restarted {times} within the window")
        for line in whole.window.notes:
            notes.add(f"{name}: {line}")
        if peak is not None and at_peak is None:
            notes.add(f"{name} was not there for most of the peak: it has no window there")
        for line in at_peak.window.notes if at_peak else ():
            if line not in whole.window.notes:
                notes.add(f"{name}, at the peak: {line}")

    def _shares(self) -> None:
        """Half-up replicas."""
        total = len(self._known)
        shares = {
            seen.name: len(self._there[seen.key]) / (total or 1) for seen in self._roster.seen
        }
        partly = [f"{name} ({100 * part:.0f} %)" for name, part in shares.items() if part < SHARE]
        if partly and total:
            notes = f"scraped for a part of the time only: {listed(partly)}"
            self._notes.add(notes)


def _there(steps: Told, key: Key) -> set[int]:
    """The steps in which a replica was scraped."""
    cells = steps.get(key, {})
    kinds = ("level", "grown", "count")
    return {step for kind, name in cells if kind in kinds for step in track(cells, kind, name)}


def _average(steps: Told, keys: Sequence[Key], metric: str) -> dict[int, float]:
    """A gauge's mean over the replicas that tell it."""
    tracks = [track(steps[key], "level", metric) for key in keys if key in steps]
    counts = added([dict.fromkeys(one, 1.0) for one in tracks])
    return {step: total / counts[step] for step, total in added(tracks).items()}


def _mean(load: Mapping[int, float], steps: Iterable[int]) -> float:
    return fmean(load[step] for step in steps)
