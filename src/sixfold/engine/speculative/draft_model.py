"""A smaller model that drafts for a larger one: token by token, for all requests at once.

Its keys and values lie under the same block ids as the target's, so that prefixes which requests
share are shared here, too, and nothing has to be kept in step. A model that drafts for itself with
fewer bits uses the target's cache as it is: it never computes a prompt, and what it writes for
drafted tokens is overwritten when they are checked.

Tokens are drawn with the same random numbers as the target will draw with, so that two models that
agree draw the same. Not here: which tokens are right (runner/model_runner.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import BLOCK_SIZE
from sixfold.core.request import EngineRequest
from sixfold.engine.runner.executor import Executor
from sixfold.engine.runner.sampling_batch import SamplingBatch
from sixfold.engine.runner.step_input import StepInput
from sixfold.engine.scheduler.output import ScheduledChunk

Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request whose next tokens are to be drafted."""

    chunk: ScheduledChunk
    request: EngineRequest
    output: Sequence[int]
    """What it has generated."""

    def tokens(self, start: int) -> list[int]:
        """Its tokens from `start` on."""
        prompt = self.request.prompt_token_ids
        if start >= len(prompt):
            return list(self.output[start - len(prompt) :])
        return prompt[start:] + list(self.output)


@dataclass(slots=True)
class _Place:
    """How far the drafting model is with the request of a slot."""

    request: EngineRequest
    known: int


class DraftModel:
    """Drafts with `executor`. `tables` are its block tables, one per KV group of its own.

    `own_cache`: it has keys and values of its own; else they are the target's.
    """

    def __init__(
        self, executor: Executor, sampling: SamplingBatch, tables: list[Int32],
        num_blocks: int, max_tokens: int, own_cache: bool,
    ) -> None:  # fmt: skip
        """`max_tokens`: of a forward, at least two for every slot."""
        self._executor = executor
        self._sampling = sampling
        self._tables = tables
        self._max_tokens = max_tokens
        self._own_cache = own_cache
        self._full = np.zeros(num_blocks, np.bool_)
        """Blocks whose tokens' keys and values are all here."""
        self._places: list[_Place | None] = [None] * len(tables[0])

    def seconds(self) -> float:
        """Time spent in it so far."""
        return sum(self._executor.seconds().values())

    def allocated(self, chunks: Sequence[ScheduledChunk], group: int) -> None:
        """New blocks of the target's KV `group` are in its tables: they hold nothing of ours."""
        if not self._own_cache:
            return
        for chunk in chunks:
            for index, block in chunk.new_blocks[group]:
                if index == 0:
                    self._places[chunk.slot] = None
                # A first chunk brings the blocks of a cached prefix, too: those are as they were.
                if index * BLOCK_SIZE >= chunk.start:
                    self._full[block] = False

    def draft(self, wanted: Sequence[Wanted]) -> list[list[int]]:
        """As many tokens for each request as its chunk has places for behind the first token."""
        starts = [self._catch_up(one) for one in wanted]
        drafts: list[list[int]] = [[] for _ in wanted]
        going = list(range(len(wanted)))
        while going:
            pieces = []
            for i in going:
                tokens = drafts[i][-1:] if drafts[i] else wanted[i].tokens(starts[i])
                end = wanted[i].chunk.start + len(drafts[i]) + 1
                pieces.append((wanted[i].chunk.slot, end - len(tokens), tokens))
            rows = self._forward(pieces)
            found = self._sample([wanted[i] for i in going], [drafts[i] for i in going], rows)
            for i, token in zip(going, found, strict=True):
                drafts[i].append(token)
            going = [i for i in going if len(drafts[i]) < wanted[i].chunk.num_drafted]
        return drafts

    def kept(self, chunk: ScheduledChunk, count: int) -> None:
        """Of a drafted chunk's tokens the first `count` stay: what lies behind them is void."""
        place = self._places[chunk.slot]
        if not self._own_cache or place is None:
            return
        # The last drafted token was sampled here, but not computed.
        before, place.known = place.known, chunk.start + min(count, chunk.num_drafted)
        self._note_full(chunk.slot, before, place.known)

    def _catch_up(self, one: Wanted) -> int:
        """Compute what the target has and we have not, but for two tokens; how far that is."""
        slot, last = one.chunk.slot, one.chunk.start
        if not self._own_cache:
            return last
        place = self._places[slot]
        if place is None or place.request is not one.request:
            place = self._places[slot] = _Place(one.request, self._leading_full(slot, last))
        while place.known < last - 1:
            tokens = one.tokens(place.known)[: min(self._max_tokens, last - place.known)]
            self._forward([(slot, place.known, tokens)])
            self._note_full(slot, place.known, place.known + len(tokens))
            place.known += len(tokens)
        return place.known

    def _leading_full(self, slot: int, most: int) -> int:
        """Tokens at the beginning that another request has computed here already."""
        blocks = self._tables[0][slot, : most // BLOCK_SIZE]
        missing = np.flatnonzero(~self._full[blocks])
        return int(missing[0] if len(missing) else len(blocks)) * BLOCK_SIZE

    def _note_full(self, slot: int, start: int, end: int) -> None:
        blocks = self._tables[0][slot, start // BLOCK_SIZE : end // BLOCK_SIZE]
        self._full[blocks] = True

    def _forward(self, pieces: list[tuple[int, int, list[int]]]) -> Int32:
        """Run (slot, position of the first, tokens) pieces; the row of each one's last token."""
        starts = np.cumsum([0] + [len(tokens) for _, _, tokens in pieces], dtype=np.int32)
        self._executor.forward(StepInput(
            np.array([t for _, _, tokens in pieces for t in tokens], np.int32),
            np.concatenate([np.arange(p, p + len(t), dtype=np.int32) for _, p, t in pieces]),
            starts, np.array([slot for slot, _, _ in pieces], np.int32), self._tables,
        ))  # fmt: skip
        return starts[1:] - 1

    def _sample(self, wanted: list[Wanted], drafts: list[list[int]], rows: Int32) -> list[int]:
        slots, outputs = [one.chunk.slot for one in wanted], [one.output for one in wanted]
        params = self._sampling.next_records(slots, outputs, drafts)
        found = self._executor.sample(rows, np.full(len(rows), -1, np.int32), params)
        tokens: list[int] = found["token"].tolist()
        return tokens
