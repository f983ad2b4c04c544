"""How likely a drafted token is to be kept: learned from what was, per source and per request.

Counts by position that fade, so that the latest few hundred drafts decide. Not here: what is done
with it (choice.py).
"""

from collections.abc import Sequence

FADE = 0.98
"""What a count is worth after the next draft of its kind."""

PRIOR, PRIOR_WEIGHT = 0.6, 2.0
"""Before anything is known."""

MODEL, MODEL_PRIOR = "model", 0.85
"""Drafts of a model, which mostly agrees with its larger one."""

NEVER = 0.05
"""Chances below which the rest of a draft is not looked at."""

OWN_WEIGHT = 8.0
"""Drafts of everybody that count as much as what is known of the request itself."""

LONG_MATCH = 8
"""Matches at least as long are alike."""

Kind = tuple[str, int]
"""(source, how long the match was that the draft comes from)."""

SAMPLED = " sampled"
"""Behind a source: what is likely is not always drawn."""


def kind_of(source: str, matched: int, greedy: bool = True) -> Kind:
    """Drafts that are judged together."""
    return source if greedy else source + SAMPLED, min(matched, LONG_MATCH)


class Counts:
    """Per position of a draft: how often it was come to, and how often the token there was kept."""

    __slots__ = ("kept", "tried")

    def __init__(self, positions: int) -> None:
        self.tried = [0.0] * positions
        self.kept = [0.0] * positions

    def add(self, drafted: int, accepted: int) -> None:
        """Of `drafted` tokens the first `accepted` were kept; those behind the next say nothing."""
        for i in range(min(drafted, accepted + 1)):
            self.tried[i] = self.tried[i] * FADE + 1.0
            self.kept[i] = self.kept[i] * FADE + (i < accepted)


class Acceptance:
    """What is known of all requests' drafts, by kind, and of each request's own."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._known: dict[tuple[str, int | str], Counts] = {}

    def learn(self, request_id: str, kind: Kind, drafted: int, accepted: int) -> None:
        """A step has judged a draft."""
        keys: tuple[tuple[str, int | str], ...] = (kind, (request_id, kind[0]))
        for key in keys:
            if key not in self._known:
                self._known[key] = Counts(self._positions)
            self._known[key].add(drafted, accepted)

    def forget(self, request_id: str, sources: Sequence[str]) -> None:
        """The request is over."""
        for source in sources:
            for name in (source, source + SAMPLED):
                self._known.pop((request_id, name), None)

    def kept(self, request_id: str, kind: Kind, count: int) -> list[float]:
        """Chances that the first, the first two, ... `count` tokens of a draft are kept."""
        everybody, own = self._known.get(kind), self._known.get((request_id, kind[0]))
        chances: list[float] = []
        reached = 1.0
        general = mine = MODEL_PRIOR if kind[0].startswith(MODEL) else PRIOR
        for i in range(min(count, self._positions)):
            if reached < NEVER:
                break
            # What is not known of a position is guessed from the one before it.
            general = mixed(general, PRIOR_WEIGHT, everybody, i)
            mine = mixed((general + mine) / 2 if i else general, OWN_WEIGHT, own, i)
            reached *= mine
            chances.append(reached)
        return chances


def mixed(guess: float, weight: float, counts: Counts | None, i: int) -> float:
    """A chance before anything is known, and what was seen at position `i`."""
    if counts is None:
        return guess
    return (guess * weight + counts.kept[i]) / (weight + counts.tried[i])
