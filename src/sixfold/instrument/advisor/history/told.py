"""What a Prometheus told, per replica and metric: rows of answers sorted into cells, and asked for.

A query that fails costs what it asks for, and a note. Not here: which parts are asked for
(windows.py), the HTTP (api.py).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from sixfold.instrument.advisor.history.api import Api, RefusalError, Row
from sixfold.instrument.advisor.history.past import Grid
from sixfold.instrument.advisor.history.promql import TAG, Expressions, Part, unions
from sixfold.instrument.backends.aliases import FULLEST

Key = tuple[str, str]
"""A replica: its `job` and `instance` labels."""
Values = dict[float, float]
"""By the step's index, by a bucket's upper bound, or by 0 for one value."""
Cells = dict[tuple[str, str], dict[int, Values]]
"""Kind of part and metric -> rank of the name -> values."""
Told = dict[Key, Cells]
MOST = 1e18
"""No metric here is greater, or below 0: what is, is left out."""


class Notes:
    """Lines, each once, in the order in which they came."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def add(self, line: str) -> None:
        """One more."""
        self._lines[line] = None

    @property
    def lines(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._lines)


class Asker:
    """Asks a server about replicas."""

    def __init__(self, api: Api, expressions: Expressions, keys: Iterable[Key]) -> None:
        self.expressions = expressions
        self.failed: list[str] = []
        """Why queries failed."""
        self._api = api
        self._keys = frozenset(keys)

    def at(self, parts: Sequence[Part], time: int) -> Told:
        """Values of that time."""
        return self._ask(parts, lambda query: self._api.instant(query, time), lambda _at: 0)

    def over(self, parts: Sequence[Part], grid: Grid) -> Told:
        """Values of each step."""
        return self._ask(parts, lambda query: self._api.series(query, grid), grid.index)

    def rows(self, query: str, time: int) -> list[Row]:
        """The rows of any query; none where it fails."""
        try:
            return self._api.instant(query, time)
        except RefusalError as error:
            self.failed.append(error.message)
            return []

    def _ask(
        self,
        parts: Sequence[Part],
        answer: Callable[[str], list[Row]],
        place: Callable[[float], int | None],
    ) -> Told:
        told: Told = {}
        for query, tags in unions(parts):
            try:
                rows = answer(query)
            except RefusalError as error:
                self.failed.append(error.message)
                continue
            # Series without a model's name are another's where both are there.
            for row in sorted(rows, key=lambda row: "model_name" not in row.labels):
                self._sort(row, tags, place, told)
        return told

    def _sort(
        self,
        row: Row,
        tags: Mapping[str, Part],
        place: Callable[[float], int | None],
        told: Told,
    ) -> None:
        part = tags.get(row.labels.get(TAG, ""))
        key = key_of(row.labels)
        if part is None or key not in self._keys:
            return
        ranks = told.setdefault(key, {}).setdefault((part.kind, part.metric), {})
        bound = _bound(row.labels) if part.kind == "bucket" else None
        for time, value in row.values:
            where = place(time) if part.kind != "bucket" else bound
            if where is not None and 0 <= value <= MOST:
                ranks.setdefault(part.rank, {}).setdefault(where, value)


def key_of(labels: Mapping[str, str]) -> Key:
    """Whose series it is."""
    return labels.get("job", ""), labels.get("instance", "")


def _bound(labels: Mapping[str, str]) -> float | None:
    try:
        bound = float(labels.get("le", ""))
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def track(cells: Cells, kind: str, metric: str) -> dict[int, float]:
    """A metric's values by step: of several names the first that is there, or the fullest."""
    merged: dict[int, float] = {}
    ranks = cells.get((kind, metric), {})
    for rank in sorted(ranks):
        for step, value in ranks[rank].items():
            at = int(step)
            if metric in FULLEST:
                merged[at] = max(value, merged.get(at, value))
            else:
                merged.setdefault(at, value)
    return merged
