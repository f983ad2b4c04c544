"""Drafts that cost next to nothing: what followed when the same tokens came before.

n-grams over the request's own tokens (prompt lookup: Saxena 2023), or the longest suffix over them
and over past outputs (SuffixDecoding: Oliaro et al., 2024). Not here: how many of a draft are worth
checking (choice.py).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sixfold.engine.speculative.automaton import START, Place, SuffixAutomaton

SEPARATOR = -1
"""Between past outputs: nothing is drafted across it."""

GRAMS = (8, 5, 3, 2)
"""Lengths of the n-grams that are looked up, the longest first: of a text that repeats itself only
a long one tells which time it is."""

MIN_MATCH = 2
"""Of a suffix: one token alone says little."""

MAX_TENANTS = 16
"""Whose past outputs are kept."""

PAST_TOKENS = 50_000
"""Of finished requests, that are kept twice over: the older half goes when the younger is full."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next. `matched`: how many tokens before them were found to be alike."""

    tokens: Sequence[int]
    matched: int


NOTHING = Draft((), 0)


class Lookup(Protocol):
    """One request's tokens, and what they say of the next ones."""

    def extend(self, tokens: Sequence[int]) -> None:
        """These come next."""
        ...

    def draft(self, most: int) -> Draft:
        """Up to `most` tokens."""
        ...


class NgramLookup:
    """The continuation of the latest earlier n-gram that is like the last n tokens."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._after: dict[int, dict[tuple[int, ...], int]] = {n: {} for n in GRAMS}
        self._before = dict.fromkeys(GRAMS, 0)
        """Per n, where the latest n-gram's like ended before it; 0 for nowhere."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Note where each n-gram ends."""
        text = self._tokens
        for token in tokens:
            text.append(token)
            for n, after in self._after.items():
                if n <= len(text):
                    gram = tuple(text[-n:])
                    self._before[n] = after.get(gram, 0)
                    after[gram] = len(text)

    def draft(self, most: int) -> Draft:
        """What followed the longest n-gram that was there before."""
        for n in GRAMS:
            place = self._before[n]
            if place:
                return Draft(following(self._tokens, place, most), n)
        return NOTHING


class PastOutputs:
    """Texts of finished requests, two generations of them, so that memory is bounded."""

    def __init__(self, most: int = PAST_TOKENS) -> None:
        self._most = most
        self.generation = 0
        """Grows when one of `texts` is another than before."""
        self.texts = [SuffixAutomaton(), SuffixAutomaton()]
        """The younger, then the older one."""

    def add(self, tokens: Sequence[int]) -> None:
        """A request has ended with this output."""
        young = self.texts[0]
        if young.text and len(young.text) + len(tokens) >= self._most:
            self.texts = [SuffixAutomaton(), young]
            self.generation += 1
            young = self.texts[0]
        young.extend(tokens[-self._most :])
        young.append(SEPARATOR)


class Pasts:
    """Past outputs of each tenant by itself: how fast an answer comes must not tell of others'."""

    def __init__(self) -> None:
        self._by_salt: OrderedDict[str, PastOutputs] = OrderedDict()

    def of(self, salt: str) -> PastOutputs:
        """The tenant's; of many tenants those who came last are remembered."""
        past = self._by_salt.setdefault(salt, PastOutputs())
        self._by_salt.move_to_end(salt)
        if len(self._by_salt) > MAX_TENANTS:
            self._by_salt.popitem(last=False)
        return past


class SuffixLookup:
    """The continuation of the longest suffix that was there before, here or in past outputs."""

    def __init__(self, past: PastOutputs) -> None:
        self._past = past
        self._own = SuffixAutomaton()
        self._place, self._found = START, 0
        self._places: list[Place] = [START, START]
        self._generation = past.generation

    def extend(self, tokens: Sequence[int]) -> None:
        """Follow them in all texts."""
        if self._generation != self._past.generation:
            self._generation = self._past.generation
            self._places = [START, START]
        own, others = self._own, self._past.texts
        for token in tokens:
            self._place = own.append(token)
            self._found = own.end(self._place)
            own.seen(self._place, len(own.text))
            for i, text in enumerate(others):
                if text.text:
                    self._places[i] = text.step(self._places[i], token)

    def draft(self, most: int) -> Draft:
        """What followed the longest match; of equals the request's own."""
        matched, best = self._place[1], None
        if self._generation == self._past.generation:
            for text, place in zip(self._past.texts, self._places, strict=True):
                if place[1] > matched:
                    matched, best = place[1], text.text[(end := text.end(place)) : end + most]
        if matched < MIN_MATCH:
            return NOTHING
        if best is None:
            return Draft(following(self._own.text, self._found, most), matched)
        return Draft(best[: best.index(SEPARATOR)] if SEPARATOR in best else best, matched)


def following(text: list[int], place: int, most: int) -> list[int]:
    """`most` tokens from `place` on; at the text's end as if what was read were its next ones."""
    tokens = text[place : place + most]
    while 0 < len(tokens) < most:
        tokens += tokens[: most - len(tokens)]
    return tokens
