"""A suffix automaton that grows token by token: where did what stands here stand before?

Blumer et al., 1985. Constant time per token (amortised), at most two states per token. Not here:
what is drafted from it (lookup.py).
"""

from collections.abc import Iterable

Place = tuple[int, int]
"""(state, how many of the last tokens it matches)."""

START: Place = (0, 0)


class SuffixAutomaton:
    """All substrings of a growing text; for each the end of an occurrence of it.

    `text` is the text itself. The occurrence is the latest one that `append` came by, which is
    rarely not the latest of all.
    """

    def __init__(self) -> None:
        self.text: list[int] = []
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        self._end = [0]
        """Tokens of the text up to the end of an occurrence."""
        self._last = 0

    def extend(self, tokens: Iterable[int]) -> None:
        """Append them all."""
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> Place:
        """Add a token. Returns the longest suffix that the text had before, as a place."""
        self.text.append(token)
        here = self._state({}, self._length[self._last] + 1)
        at, self._last = self._last, here
        while at >= 0 and token not in self._next[at]:
            self._next[at][token] = here
            at = self._link[at]
        if at < 0:
            self._link[here] = 0
            return START
        link = self._next[at][token]
        if self._length[link] != self._length[at] + 1:
            link = self._split(at, token, link)
        self._link[here] = link
        return link, self._length[link]

    def step(self, place: Place, token: int) -> Place:
        """The longest suffix of (what `place` matches, then `token`) that is in the text."""
        state, length = place
        # A state may have been split since: what is matched then belongs to a shorter one.
        while state and length <= self._length[self._link[state]]:
            state = self._link[state]
        while state and token not in self._next[state]:
            state = self._link[state]
            length = self._length[state]
        if token not in self._next[state]:
            return START
        return self._next[state][token], length + 1

    def end(self, place: Place) -> int:
        """Tokens of the text up to the end of an occurrence of what `place` matches."""
        return self._end[place[0]]

    def seen(self, place: Place, end: int) -> None:
        """What `place` matches also ends at `end`: later than before."""
        if place[0]:
            self._end[place[0]] = end

    def _state(self, following: dict[int, int], length: int) -> int:
        self._next.append(following)
        self._link.append(0)
        self._length.append(length)
        self._end.append(len(self.text))
        return len(self._next) - 1

    def _split(self, at: int, token: int, state: int) -> int:
        """A state for the shorter strings of `state`, which now occur elsewhere, too."""
        clone = self._state(dict(self._next[state]), self._length[at] + 1)
        self._end[clone] = self._end[state]
        self._link[clone], self._link[state] = self._link[state], clone
        while at >= 0 and self._next[at].get(token) == state:
            self._next[at][token] = clone
            at = self._link[at]
        return clone
