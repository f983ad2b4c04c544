"""What a workload is, in numbers: sizes, ideal prefix reuse, arrivals, and a hash that names it.

Token ids count as they are; text counts by words (for lengths and reuse alike), as there is no
tokenizer. Chat templates are not counted. Not here: what a server did with it (report).
"""

import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean, pstdev

import msgspec

from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.workloads.content import TOKENS_PER_WORD

BLOCK = 32
"""Tokens or words of a block of the ideal cache."""
Unit = int | str


class Distribution(msgspec.Struct, frozen=True):
    """Of lengths; percentiles by nearest rank. All 0 for none."""

    mean: float = 0.0
    p50: int = 0
    p90: int = 0
    p99: int = 0
    max: int = 0

    def __str__(self) -> str:
        return (
            f"mean {self.mean:.1f}, p50 {self.p50}, p90 {self.p90}, p99 {self.p99}, max {self.max}"
        )


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """A workload in numbers; `line` and `lines` print it."""

    id: str
    """16 hex digits: a hash of all contents, limits, pauses and times."""
    sessions: int
    requests: int
    """Turns of all sessions."""
    unit: str
    """What inputs are counted in: tokens, words, or mixed."""
    input: Distribution
    """Whole prompts: the system prompt, earlier turns and full-length answers are in them."""
    output: Distribution
    """`max_tokens`, in tokens."""
    prefix_reuse: float
    """Share (0 to 1) of prompt units that an infinite cache of whole blocks would hit."""
    unique_prompts: int
    """Requests whose system prompt and turns so far differ from all others'."""
    rate: float
    """Sessions per second; 0 if all arrive at once."""
    burstiness: float
    """Coefficient of variation of the times between arrivals: about 1 for Poisson, 0 for even."""
    span: float
    """Seconds from the first arrival to the last."""

    def line(self) -> str:
        """The most telling numbers in one line."""
        return (
            f"{self.requests} requests in {self.sessions} sessions, "
            f"in {self.input.mean:.0f} {self.unit}, out {self.output.mean:.0f} tokens, "
            f"reuse {self.prefix_reuse:.1%}, {self.rate:.3g}/s, id {self.id}"
        )

    def lines(self) -> str:
        """All numbers, a few to a line."""
        return "\n".join(
            (
                f"workload {self.id}: {self.sessions} sessions, {self.requests} requests, "
                f"{self.unique_prompts} unique prompts",
                f"input {self.unit}: {self.input}",
                f"output tokens: {self.output}",
                f"ideal prefix reuse: {self.prefix_reuse:.1%}",
                f"arrivals: {self.rate:.4g} sessions/s over {self.span:.4g} s, "
                f"CV {self.burstiness:.3g}",
            )
        )


def fingerprint(
    sessions: Sequence[Session], arrival_times: Sequence[float] = (), block: int = BLOCK
) -> Fingerprint:
    """Numbers of a workload. `arrival_times`: seconds, one per session; empty: all at once.

    `block`: tokens (words) of a cache block. No errors but for times that don't match sessions.
    """
    assert not arrival_times or len(arrival_times) == len(sessions)
    assert block >= 1
    times = sorted(arrival_times)
    gaps = [b - a for a, b in pairwise(times)]
    span = times[-1] - times[0] if times else 0.0
    tree = _Tree(block)
    inputs = [length for session in sessions for length in tree.add(session)]
    outputs = [turn.max_tokens for session in sessions for turn in session.turns]
    return Fingerprint(
        id=_identity(sessions, arrival_times),
        sessions=len(sessions),
        requests=len(inputs),
        unit=_unit(sessions),
        input=distribution(inputs),
        output=distribution(outputs),
        prefix_reuse=tree.hits / max(1, sum(inputs)),
        unique_prompts=_unique(sessions),
        rate=len(gaps) / span if span else 0.0,
        burstiness=pstdev(gaps) / fmean(gaps) if span else 0.0,
        span=span,
    )


def distribution(lengths: Iterable[int]) -> Distribution:
    """Mean, percentiles by nearest rank, and the greatest."""
    ordered = sorted(lengths)
    if not ordered:
        return Distribution()
    p50, p90, p99 = (ordered[math.ceil(q * len(ordered) / 100) - 1] for q in (50, 90, 99))
    return Distribution(fmean(ordered), p50, p90, p99, ordered[-1])


class _Tree:
    """All prefixes of whole blocks seen so far: a node is its parent and its block."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.nodes: dict[tuple[int, tuple[Unit, ...]], int] = {}
        self.hits = 0
        """Units of prompts found."""
        self.answered = 0
        """Units of answers so far: each is one that no prompt has."""

    def add(self, session: Session) -> list[int]:
        """The lengths of the session's prompts, one per turn.

        A session's own earlier blocks are hits; its answers are in the cache when they are made.
        """
        pending: list[Unit] = list(session.system.split())
        node, walked, lengths = 0, 0, []
        for turn in session.turns:
            pending += units_of(turn)
            lengths.append(walked + len(pending))
            before = walked
            node, pending, found = self._walk(node, pending)
            walked = lengths[-1] - len(pending)
            self.hits += before + found
            if len(lengths) < len(session.turns):
                pending += self._answer(turn)
                total = walked + len(pending)
                node, pending, _ = self._walk(node, pending)
                walked = total - len(pending)
        return lengths

    def _walk(self, node: int, pending: list[Unit]) -> tuple[int, list[Unit], int]:
        """Down by whole blocks: the node, the units left over, and the units that were there."""
        found = 0
        whole = len(pending) // self.block * self.block
        for start in range(0, whole, self.block):
            key = node, tuple(pending[start : start + self.block])
            fresh = len(self.nodes) + 1
            node = self.nodes.setdefault(key, fresh)
            found += self.block if node != fresh else 0
        return node, pending[whole:], found

    def _answer(self, turn: Turn) -> list[Unit]:
        """Units below 0, never given twice."""
        count = turn.max_tokens
        if not turn.token_ids:
            count = max(1, round(count / TOKENS_PER_WORD))
        self.answered += count
        return list(range(-self.answered, count - self.answered))


def units_of(turn: Turn) -> Sequence[Unit]:
    """What a turn is counted in: its token ids, or its words."""
    return turn.token_ids or turn.text.split()


def _unit(sessions: Sequence[Session]) -> str:
    kinds = {bool(turn.token_ids) for session in sessions for turn in session.turns}
    return "mixed" if len(kinds) == 2 else "words" if kinds == {False} else "tokens"


def _unique(sessions: Sequence[Session]) -> int:
    seen: set[bytes] = set()
    for session in sessions:
        so_far = hashlib.blake2b(_text(session.system), digest_size=16)
        for turn in session.turns:
            so_far.update(_content(turn))
            seen.add(so_far.digest())
    return len(seen)


def _identity(sessions: Sequence[Session], times: Sequence[float]) -> str:
    """Written out by hand: it must not change with a library's encoding."""
    digest = hashlib.blake2b(struct.pack("<QQ", len(sessions), len(times)), digest_size=8)
    digest.update(struct.pack(f"<{len(times)}d", *times))
    for session in sessions:
        at = -1.0 if session.at is None else session.at
        digest.update(struct.pack("<Qd", len(session.turns), at))
        digest.update(_text(session.system) + _text(session.slo_class))
        for turn in session.turns:
            digest.update(struct.pack("<Qd", turn.max_tokens, turn.think_time))
            digest.update(_content(turn))
    return digest.hexdigest()


def _content(turn: Turn) -> bytes:
    ids = turn.token_ids
    return struct.pack(f"<Q{len(ids)}q", len(ids), *ids) + _text(turn.text)


def _text(text: str) -> bytes:
    """With its length before it: what follows can't be taken for a part of it."""
    encoded = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded
