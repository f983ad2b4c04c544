"""The prompt-layout check: prefixes that prompts could share and do not, why, and what it costs.

A prefix cache ends at the first character that differs. The check takes each prompt with the
earlier one that is most like it, looks for the spans in which they differ while both go on alike
behind, and counts what would have been shared without them: only what no earlier prompt shares
already. Pure, and of bounded work: many prompts are sampled, long ones are cut.
Not here: one pair of prompts (divergence), where prompts come from.
"""

import re
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple
from zlib import crc32

import msgspec

from sixfold.instrument.workloads.divergence import (
    ID,
    KEYS,
    NUMBER,
    OTHER,
    RUN,
    SPACE,
    TIME,
    USER,
    Divergence,
    alike,
    divergences,
    place_of,
)

MAX_PROMPTS = 2000
"""More are sampled, in runs of neighbours."""
MAX_CHARS = 32 << 10
"""Of a prompt that are looked at."""
MAX_TOTAL = 8 << 20
"""Characters of all prompts that are looked at."""
LEAST_TOKENS = 32
"""A place that costs less per request it concerns is none worth naming."""
MOST_FINDINGS = 8
CHARS_PER_TOKEN = 4.0
_WINDOWS = 8
_ANCHOR = 48
"""Characters of a piece by which like prompts are found."""
_ANCHORS = 24
"""Pieces kept of a prompt's start, and again of all of it."""
_START = 4096
_FELLOWS = 16
"""Prompts that are remembered for a piece."""
_PARTNERS = 3
_TRIGGER = re.compile(f"[{''.join(re.escape(chr(c)) for c in range(0x22, 0xD800, 13))}]")
"""Where pieces begin: every 13th character of Unicode, so that each script has some."""

ADVICE = {
    TIME: "move it behind the shared part, into the last message, or round it: a day, not a second",
    ID: "leave it out of the prompt, or move it behind the shared part",
    NUMBER: "move it behind the shared part",
    KEYS: "write JSON with sorted keys, so that equal values are equal text",
    SPACE: "write the shared part from one template, white space and line ends included",
    USER: "move it behind the shared part, into the last message",
    OTHER: "move it behind the shared part; parts that change places want a fixed order",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One place where prompts part that go on alike."""

    kind: str
    """timestamp, id, number, JSON key order, white space, user, or other text."""
    requests: int
    """Prompts that it costs something, of those that were looked at."""
    share: float
    """Of those that were looked at, 0 to 1."""
    position: int
    """Tokens before it, in the median prompt."""
    loss_per_request: float
    """Tokens that each of these could have shared besides, in the mean."""
    loss: int
    """Tokens in all; where prompts were sampled, scaled up to all of them."""
    example: str
    """The line with the place marked: ...before [[here | there]] after..."""
    advice: str


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What the check found."""

    prompts: int
    checked: int
    """As many of them were looked at."""
    shared: float
    """Share of their tokens that an earlier prompt began with, 0 to 1."""
    lost: float
    """Share of their tokens that the findings cost, 0 to 1."""
    findings: tuple[Finding, ...]
    """The costliest first."""

    def lines(self) -> str:
        """As text."""
        sampled = f", {self.checked} of them looked at" if self.checked < self.prompts else ""
        head = (
            f"prompt layout: {self.prompts} prompts{sampled}; {self.shared:.0%} of their tokens "
            f"are prefixes of earlier ones, {self.lost:.0%} more could be"
        )
        if not self.findings:
            return f"{head}\n  no place found where prefixes part that could be shared"
        return "\n".join([head, *(text for found in self.findings for text in _told(found))])


def _told(found: Finding) -> Iterator[str]:
    yield (
        f"  {found.kind}: costs {found.loss} tokens, {found.loss_per_request:.0f} in each of "
        f"{found.requests} requests ({found.share:.0%}), after about {found.position} tokens"
    )
    yield f"    {found.example}"
    yield f"    {found.advice}"


class _Cost(NamedTuple):
    """One divergence of one prompt, and the characters that it costs."""

    prompt: int
    divergence: Divergence
    chars: int


def check_layout(prompts: Sequence[str], chars_per_token: float = CHARS_PER_TOKEN) -> Layout:
    """Where prompts, in the order of their arrival, part that could share more. No errors."""
    assert chars_per_token > 0
    looked_at = [prompt[:MAX_CHARS] for prompt in _sample(prompts)]
    before = _Before()
    places: dict[tuple[str, str], list[_Cost]] = defaultdict(list)
    shared = 0
    for prompt in looked_at:
        reused, costs = before.take(prompt)
        shared += reused
        for cost in costs:
            places[cost.divergence.kind, _place(cost.divergence)].append(cost)
    size = max(1, sum(map(len, looked_at)))
    scale = len(prompts) / max(1, len(looked_at)), chars_per_token
    found = [_finding(costs, len(looked_at), scale) for costs in places.values()]
    told = [f for f in found if f.requests > 1 and f.loss_per_request >= LEAST_TOKENS]
    told.sort(key=lambda finding: -finding.loss)
    total = max(1.0, size / chars_per_token * scale[0])
    return Layout(
        prompts=len(prompts),
        checked=len(looked_at),
        shared=shared / size,
        lost=sum(finding.loss for finding in told) / total,
        findings=tuple(told[:MOST_FINDINGS]),
    )


def layout_loss(prompts: Sequence[str]) -> float:
    """The share of prompt tokens, 0 to 1, that another layout would share with earlier prompts."""
    return check_layout(prompts).lost


def _sample(prompts: Sequence[str]) -> list[str]:
    """As many as the bounds allow: neighbours, since what is alike often comes together."""
    mean = sum(min(len(prompt), MAX_CHARS) for prompt in prompts) / max(1, len(prompts))
    most = min(MAX_PROMPTS, max(2 * _WINDOWS, int(MAX_TOTAL / max(1.0, mean))))
    if len(prompts) <= most:
        return list(prompts)
    size = most // _WINDOWS
    step = (len(prompts) - size) / (_WINDOWS - 1)
    starts = [round(step * window) for window in range(_WINDOWS)]
    return [prompt for start in starts for prompt in prompts[start : start + size]]


class _Before:
    """The prompts so far: in order, and by pieces of theirs."""

    def __init__(self) -> None:
        self._sorted: list[str] = []
        self._all: list[str] = []
        self._fellows: dict[int, list[int]] = defaultdict(list)

    def take(self, prompt: str) -> tuple[int, list[_Cost]]:
        """Add a prompt. How much of it was there already, and what its layout costs."""
        place = bisect_left(self._sorted, prompt)
        neighbours = self._sorted[max(0, place - 1) : place + 1]
        reused = max((alike(prompt, other) for other in neighbours), default=0)
        anchors = _anchors(prompt)
        partners = [*neighbours, *(self._all[number] for number in self._like(anchors))]
        costs: list[_Cost] = []
        if reused < len(prompt):
            number = len(self._all)
            ways = [_costs(other, prompt, reused, number) for other in dict.fromkeys(partners)]
            costs = max(ways, key=lambda way: sum(cost.chars for cost in way), default=[])
        for anchor in anchors:
            if len(self._fellows[anchor]) < _FELLOWS:
                self._fellows[anchor].append(len(self._all))
        self._all.append(prompt)
        insort(self._sorted, prompt)
        return reused, costs

    def _like(self, anchors: set[int]) -> list[int]:
        """The earlier prompts that have most of these pieces."""
        met = Counter(n for anchor in anchors for n in self._fellows.get(anchor, ()))
        return [number for number, _ in met.most_common(_PARTNERS)]


def _costs(other: str, prompt: str, reused: int, number: int) -> list[_Cost]:
    """What each span costs the prompt, beyond what it has in common with an earlier one anyway."""
    found = []
    for divergence in divergences(other, prompt):
        start, end = divergence.shared
        if (gain := end - max(start, reused)) >= RUN:
            found.append(_Cost(number, divergence, gain))
    return found


def _anchors(prompt: str) -> set[int]:
    """Hashes of pieces that begin where certain characters stand: the same in like prompts."""
    pieces = [
        (crc32(prompt[at : at + _ANCHOR].encode("utf-8", "surrogatepass")), at)
        for at in (match.start() for match in _TRIGGER.finditer(prompt))
        if at + _ANCHOR <= len(prompt)
    ]
    early = sorted(piece for piece, at in pieces if at < _START)[:_ANCHORS]
    return {*early, *sorted(piece for piece, _ in pieces)[:_ANCHORS]}


def _place(divergence: Divergence) -> str:
    """What divergences of one place have in common. One for kinds that are all over a text."""
    return "" if divergence.kind in (KEYS, SPACE) else place_of(divergence.before)


def _finding(costs: list[_Cost], prompts: int, scale: tuple[float, float]) -> Finding:
    """The sum of one place. `scale`: prompts for each that was looked at, characters of a token."""
    factor, chars_per_token = scale
    requests = len({cost.prompt for cost in costs})
    chars = sum(cost.chars for cost in costs)
    first = costs[0].divergence
    return Finding(
        kind=first.kind,
        requests=requests,
        share=requests / prompts,
        position=round(median(cost.divergence.start for cost in costs) / chars_per_token),
        loss_per_request=chars / chars_per_token / requests,
        loss=round(chars / chars_per_token * factor),
        example=_example(first),
        advice=ADVICE[first.kind],
    )


def _example(divergence: Divergence) -> str:
    """One line, whatever the prompts hold: nothing of them may steer a terminal."""
    here, there = _shown(divergence.here, 40), _shown(divergence.there, 40)
    before = _shown(divergence.before, 48, from_end=True)
    return f"{before}[[{here} | {there}]]{_shown(divergence.after, 32)}"


def _shown(text: str, most: int, from_end: bool = False) -> str:
    short = text[-most:] if from_end else text[:most]
    plain = "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in short])
    if len(text) <= most:
        return plain
    return f"...{plain}" if from_end else f"{plain}..."
