"""Drafting for a whole step: who drafts how much from where, and what came of it.

plan (before the step is scheduled) -> fill (once it has places for drafts) -> learn (after it ran).
A draft changes nothing but speed: what it says is only kept where the model says the same. Not
here: where drafts come from (lookup.py, draft_model.py), how many pay (choice.py).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sixfold.core.request import EngineRequest
from sixfold.engine.runner.step_input import StepInputBuilder
from sixfold.engine.scheduler.output import ScheduledChunk
from sixfold.engine.speculative.acceptance import MODEL, Acceptance, Kind, kind_of
from sixfold.engine.speculative.choice import choose
from sixfold.engine.speculative.cost import StepCost
from sixfold.engine.speculative.draft_model import DraftModel, Wanted
from sixfold.engine.speculative.lookup import NOTHING, Draft, Lookup, Pasts

EXPLORE = 128
"""Steps without any draft after which a short one is tried: what did not pay may do so now."""
LATEST = 2048
"""Most steps between two tries: each one that fails doubles their distance."""
REST = 8
"""Steps for which it is not asked again whether a model's drafts would pay, once they did not."""
CONTROL = 32
"""Steps with drafts after which one goes without: else nothing tells what that would take."""
EXPLORED = 2
"""Tokens of such a try."""
DEPTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
"""Lengths of a model's drafts that are weighed against each other."""


@dataclass(slots=True)
class Drafting:
    """Counters since the start."""

    drafts: int = 0
    tokens: int = 0
    accepted: int = 0
    accepted_at: list[int] = field(default_factory=list)
    """By position in the draft."""
    seconds: float = 0.0
    """Spent on drafting."""
    wasted_seconds: float = 0.0
    """Of steps, for rows that turned out wrong: by the curve of costs."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """A request that will have its next token."""

    request: EngineRequest
    output: Sequence[int]

    @property
    def greedy(self) -> bool:
        """Its tokens are not drawn."""
        return self.request.params.temperature == 0


@dataclass(slots=True)
class _Planned:
    kind: Kind
    tokens: Sequence[int] | None
    """None: the model is going to draft."""


@dataclass(slots=True)
class _Followed:
    lookup: Lookup
    salt: str
    seen: int = 0


class Speculator:
    """All drafting of an engine. `most`: tokens per draft."""

    def __init__(
        self, most: int, cost: StepCost, source: str = "",
        new_lookup: Callable[[str], Lookup] | None = None, pasts: Pasts | None = None,
    ) -> None:  # fmt: skip
        """`source` names what `new_lookup` makes of a tenant's salt; None: nothing is looked up."""
        self.counted = Drafting(accepted_at=[0] * most)
        self._most = most
        self._cost = cost
        self._source = source
        self._new_lookup = new_lookup
        self._pasts = pasts
        self._followed: dict[str, _Followed] = {}
        self._planned: dict[str, _Planned] = {}
        self._acceptance = Acceptance(most)
        self._idle = 0
        self._patience = EXPLORE
        self._drafted = 0
        self._requests = self._resting = 0
        self._model: DraftModel | None = None
        self._model_cost = cost
        self._builder: StepInputBuilder | None = None
        self._group = 0

    def use_model(
        self, model: DraftModel, cost: StepCost, builder: StepInputBuilder, group: int
    ) -> None:
        """Let a model draft, too. `group`: the target's KV group whose tables it goes by."""
        self._model, self._model_cost = model, cost
        self._builder, self._group = builder, group

    def plan(self, decoding: Sequence[Decoding], other_rows: int) -> dict[str, int]:
        """Tokens to draft, by request, in a step that computes `other_rows` of prompts, too."""
        self._planned.clear()
        if not decoding:
            return {}
        looked = {one.request.request_id: self._look_up(one) for one in decoding}
        chances: dict[str, list[float]] = {}
        for one in decoding:
            name = one.request.request_id
            draft = looked[name]
            if draft.tokens:
                kind = kind_of(self._source, draft.matched, one.greedy)
                self._planned[name] = _Planned(kind, draft.tokens)
                chances[name] = self._acceptance.kept(name, kind, len(draft.tokens))
        lengths = self._choose(decoding, chances, other_rows)
        if lengths and self._drafted < CONTROL:
            self._drafted += 1
            self._idle, self._patience = 0, EXPLORE
            return lengths
        self._drafted = 0
        if lengths:
            return {}
        self._idle += 1
        return {} if self._idle < self._patience else self._explore(decoding)

    def fill(self, chunks: Sequence[ScheduledChunk], view: Callable[[str], Decoding]) -> None:
        """Put drafted tokens where the step has places for them."""
        wanted = []
        for chunk in chunks:
            if not chunk.num_drafted:
                continue
            tokens = self._planned[chunk.request_id].tokens
            if tokens is None:
                one = view(chunk.request_id)
                wanted.append(Wanted(chunk, one.request, one.output))
            else:
                chunk.token_ids[1:] = tokens[: chunk.num_drafted]
        if self._model is not None:
            self._model.allocated(chunks, self._group)
            if wanted:
                self._draft(self._model, chunks, wanted)

    def learn(
        self, chunks: Sequence[ScheduledChunk], new: Mapping[str, int], seconds: float
    ) -> None:
        """The step has run in `seconds`; `new`: how many tokens each sampling request got."""
        rows = wrong = 0
        for chunk in chunks:
            rows += len(chunk.token_ids)
            if chunk.num_drafted and chunk.request_id in new:
                wrong += chunk.num_drafted + 1 - new[chunk.request_id]
                self._judge(chunk, new[chunk.request_id] - 1)
        if wrong:
            self.counted.wasted_seconds += self._cost.curve(rows) - self._cost.curve(rows - wrong)
        if rows == sum(1 + chunk.num_drafted for chunk in chunks):
            self._cost.learn(rows, seconds)

    def forget(self, request_id: str, output: Sequence[int]) -> None:
        """The request is over; what it said may be said again."""
        followed = self._followed.pop(request_id, None)
        self._acceptance.forget(request_id, (self._source, MODEL))
        if followed is not None and self._pasts is not None:
            self._pasts.of(followed.salt).add(output)

    def _look_up(self, one: Decoding) -> Draft:
        if self._new_lookup is None:
            return NOTHING
        name = one.request.request_id
        followed = self._followed.get(name)
        if followed is None:
            salt = one.request.cache_salt
            followed = self._followed[name] = _Followed(self._new_lookup(salt), salt)
            followed.lookup.extend(one.request.prompt_token_ids)
        followed.lookup.extend(one.output[followed.seen :])
        followed.seen = len(one.output)
        return followed.lookup.draft(self._most)

    def _choose(
        self, decoding: Sequence[Decoding], chances: dict[str, list[float]], other_rows: int
    ) -> dict[str, int]:
        requests, rows = len(decoding), len(decoding) + other_rows
        lengths, best = choose(requests, rows, chances, self._cost) if chances else ({}, 0.0)
        if self._model is None or (self._resting and requests == self._requests):
            self._resting = max(0, self._resting - 1)
            return lengths
        self._requests, self._resting = requests, 0
        best = best or requests / self._cost.seconds(rows)
        depths = self._depths(requests, rows, best)
        if not depths:
            self._resting = REST
            return lengths
        kinds = {one.request.request_id: kind_of(MODEL, 0, one.greedy) for one in decoding}
        names = list(kinds)
        mine = {name: self._acceptance.kept(name, kinds[name], self._most) for name in names}
        drafting = [
            name for name in names if name not in chances or mine[name][0] > chances[name][0]
        ]
        each = self._model_cost.seconds(max(1, len(drafting)))
        chosen: set[str] = set()
        for depth in depths if drafting else ():
            some = chances | {name: mine[name][:depth] for name in drafting}
            found, rate = choose(requests, rows, some, self._cost, depth * each)
            if rate > best:
                lengths, best, chosen = found, rate, {n for n in drafting if n in found}
        for name in chosen:
            self._planned[name] = _Planned(kinds[name], None)
        self._resting = 0 if chosen else REST
        return lengths

    def _depths(self, requests: int, rows: int, rate: float) -> list[int]:
        """Lengths of a model's drafts that could beat `rate` if every token were kept.

        With many requests there are none, and nobody's chances need be looked at.
        """

        def at_best(depth: int, drafting: int) -> float:
            seconds = self._cost.seconds(rows + drafting * depth)
            seconds += depth * self._model_cost.seconds(drafting)
            return (requests + drafting * depth) / seconds

        return [
            depth for depth in DEPTHS
            if depth <= self._most and max(at_best(depth, 1), at_best(depth, requests)) > rate
        ]  # fmt: skip

    def _explore(self, decoding: Iterable[Decoding]) -> dict[str, int]:
        self._idle, self._patience = 0, min(2 * self._patience, LATEST)
        for name, planned in self._planned.items():
            return {name: min(EXPLORED, len(planned.tokens or ()))}
        if self._model is None:
            return {}
        one = next(iter(decoding))
        name = one.request.request_id
        self._planned[name] = _Planned(kind_of(MODEL, 0, one.greedy), None)
        self._resting = 0
        return {name: 1}

    def _draft(
        self, model: DraftModel, chunks: Sequence[ScheduledChunk], wanted: list[Wanted]
    ) -> None:
        assert self._builder is not None
        began = time.perf_counter()
        self._builder.write_tables(chunks)
        for one, tokens in zip(wanted, model.draft(wanted), strict=True):
            one.chunk.token_ids[1:] = tokens
        seconds = time.perf_counter() - began
        self.counted.seconds += seconds
        depth = max(one.chunk.num_drafted for one in wanted)
        self._model_cost.learn(len(wanted), seconds / depth)

    def _judge(self, chunk: ScheduledChunk, accepted: int) -> None:
        planned = self._planned[chunk.request_id]
        drafted = chunk.num_drafted
        if accepted:
            self._patience = EXPLORE
        self._acceptance.learn(chunk.request_id, planned.kind, drafted, accepted)
        if planned.tokens is None and self._model is not None:
            self._model.kept(chunk, accepted + 1)
        counted = self.counted
        counted.drafts += 1
        counted.tokens += drafted
        counted.accepted += accepted
        for i in range(accepted):
            counted.accepted_at[i] += 1
