"""Hands out a step's budget of tokens: lane by lane, and in a lane decodes first.

Interactive requests get what they can use: decodes, then prefills that have begun, then those that
wait. Backfill gets what is left in the same order, within an allowance; whoever does not fit stays
where it is. Progress: requests are totally ordered, and only the last in that order is preempted
for a block or a slot. So the first one always gets on, and since it fits into the pools alone, it
ends. Not here: requests coming and going (scheduler.py), how large the allowance is (backfill.py).
"""

from collections.abc import Callable, Mapping

from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.kvcache.prefix_cache import Match
from sixfold.engine.scheduler.backfill import Allowance
from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.lanes import Lane, Lanes
from sixfold.engine.scheduler.output import ScheduledChunk, SchedulerOutput
from sixfold.engine.scheduler.state import Phase, RequestState


class Planner:
    """Fills one `SchedulerOutput` after the other."""

    def __init__(self, config: SchedulerConfig, kv: KVCacheManager, lanes: Lanes) -> None:
        self._budget = config.max_num_batched_tokens
        # A decoding request takes one token of the budget: more could not all advance.
        self._max_running = min(config.max_num_seqs, config.max_num_batched_tokens)
        self._kv = kv
        self._lanes = lanes
        self._changed: list[ScheduledChunk] = []
        self._admitted: list[RequestState] = []
        self._allowance: Allowance | None = None
        self._short = False
        """Somebody waits for blocks in this step."""
        self._now = 0.0

    def plan(
        self, output: SchedulerOutput, now: float, drafts: Mapping[str, int],
        allow: Callable[[SchedulerOutput, float], Allowance],
    ) -> None:  # fmt: skip
        """Fill `output`. `allow` is told what is in it once interactive requests are served, and
        says what the step may hold of backfill."""
        self._now = now
        self._admitted.clear()
        for chunk in self._changed:
            chunk.new_blocks = self._lanes.no_changes()
        self._changed.clear()
        lanes = self._lanes
        self._allowance, self._short = None, False
        self._serve(lanes.interactive, output)
        self._add_drafts(output, drafts)
        if len(lanes.backfill):
            self._allowance = allow(output, now)
            self._serve(lanes.backfill, output)
        output.preempted = [state.request.request_id for state in lanes.preempted]
        lanes.preempted.clear()

    def unadmit(self, output: SchedulerOutput) -> None:
        """Who began in this step waits again, as if it had not."""
        for state in self._admitted:
            output.chunks.remove(state.chunk)
            output.num_batched_tokens -= len(state.chunk.token_ids)
            if not state.timings.preemptions and not state.needs_all:
                self._kv.count_lookup(-len(state.token_ids), -state.timings.cached_tokens)
                state.was_admitted = False
            self._lanes.wait_again(state, self._now)
        self._admitted.clear()

    def _serve(self, lane: Lane, output: SchedulerOutput) -> None:
        self._schedule_decodes(lane, output)
        self._schedule_prefills(lane, output)
        # What was just preempted would only take its place again. Interactive requests may take
        # the place of backfill, but backfill takes no room that an interactive request waits for.
        backfill = lane is self._lanes.backfill
        barred = self._short or any(
            backfill or not state.request.backfill for state in self._lanes.preempted
        )
        if lane.waiting and not barred:
            self._schedule_waiting(lane, output)

    def _schedule_decodes(self, lane: Lane, output: SchedulerOutput) -> None:
        allowance = self._allowance
        for state in lane.decoding:
            if allowance is not None and (
                output.num_batched_tokens >= self._budget
                or not allowance.takes_decode(state.num_computed)
            ):
                break
            if state.num_computed >= state.limit and not self._extend_decode(state, output):
                continue
            chunk = state.chunk
            chunk.start = state.num_computed
            if chunk.num_drafted:
                chunk.token_ids, chunk.num_drafted = [0], 0
            chunk.token_ids[0] = state.token_ids[-1]
            # Decodes come first in a step, also those of the second lane.
            output.chunks.insert(output.num_decodes, chunk)
            output.num_decodes += 1
            output.num_batched_tokens += 1

    def _extend_decode(self, state: RequestState, output: SchedulerOutput) -> bool:
        """Get the next block; False if the request had to give way."""
        assert len(state.token_ids) < state.max_len, "the caller finishes what reached its length"
        if not self._make_room(state, state.num_computed + 1, output):
            return False
        self._tell_changes(state, state.chunk)
        return True

    def _schedule_prefills(self, lane: Lane, output: SchedulerOutput) -> None:
        for state in lane.prefilling:
            count = self._affordable(state, output)
            if count == 0:
                break
            if self._make_room(state, state.num_computed + count, output):
                self._append_prefill(state, count, output)

    def _schedule_waiting(self, lane: Lane, output: SchedulerOutput) -> None:
        lane.admission.begin_step(lane.waiting, self._now)
        index = 0
        while index < len(lane.waiting):
            state = lane.waiting[index]
            if not self._affordable(state, output):
                break
            full = self._lanes.num_running >= self._max_running
            if full and self._yields(lane) is None:
                break
            if not lane.admission.admits(state):
                index += 1
                continue
            match = self._match(lane, state)
            if match.in_flight:
                index += 1
                continue
            if full or not self._admit(lane, state, match, output):
                victim = self._yields(lane)
                if victim is None:
                    self._short = True
                    break
                # It is looked at again: with the victim's slot and blocks it may start now.
                self._lanes.preempt(victim, self._now)

    def _yields(self, lane: Lane) -> RequestState | None:
        """Who gives way to those that wait in `lane`: backfill, to interactive requests."""
        return self._lanes.backfill.last_running() if lane is self._lanes.interactive else None

    def _match(self, lane: Lane, state: RequestState) -> Match:
        """What of its prompt is there. Nobody waits for backfill to compute a prefix: that may
        take for ever, so that an interactive request takes it over."""
        if state.needs_all:
            return self._kv.no_match
        while True:
            match = self._kv.match(state.kv, state.token_ids)
            if not match.in_flight or lane is self._lanes.backfill:
                return match
            node = state.kv.waits_for
            owner = self._lanes.backfill_of(node.owner if node is not None else None)
            if owner is None:
                return match
            self._lanes.preempt(owner, self._now)

    def _admit(
        self, lane: Lane, state: RequestState, match: Match, output: SchedulerOutput
    ) -> bool:
        """Start a waiting request if its blocks are there, with some left for those that run."""
        tokens, start = state.token_ids, match.num_tokens
        state.num_computed = start
        count = self._affordable(state, output)
        # Backfill that runs needs none left: it gives way where it must.
        reserve = lane.num_running if lane is self._lanes.interactive else self._lanes.num_running
        if not count or not self._kv.admit(state.kv, match, tokens, start + count, reserve):
            state.num_computed = 0
            return False
        self._lanes.take_slot(state, self._now)
        if not state.was_admitted:
            state.was_admitted = True
            state.timings.cached_tokens = start
            if not state.needs_all:
                self._kv.count_lookup(len(tokens), start)
        self._append_prefill(state, count, output)
        self._admitted.append(state)
        if match.num_loads:
            output.loads += self._kv.loads(state.kv, state.request.request_id, match)
        return True

    def _affordable(self, state: RequestState, output: SchedulerOutput) -> int:
        """Tokens of its prompt that the step has room for."""
        budget = self._budget - output.num_batched_tokens
        count = min(len(state.token_ids) - state.num_computed, budget)
        if self._allowance is None:
            return count
        return self._allowance.prompt_tokens(count, state.num_computed)

    def _append_prefill(self, state: RequestState, count: int, output: SchedulerOutput) -> None:
        start = state.num_computed
        end = start + count
        state.kv.scheduled_end = end
        state.chunk = ScheduledChunk(
            request_id=state.request.request_id,
            slot=state.slot,
            start=start,
            token_ids=state.token_ids[start:end],
            samples=end == len(state.token_ids) and state.request.pooling is None,
            new_blocks=self._kv.take_changes(state.kv),
            prompt_logprobs=state.scores_prompt,
            backfill=state.request.backfill,
        )
        output.chunks.append(state.chunk)
        output.num_batched_tokens += count
        if self._allowance is not None:
            self._allowance.take_prompt(count, start)

    def _add_drafts(self, output: SchedulerOutput, drafts: Mapping[str, int]) -> None:
        """Places for guessed tokens behind decodes, out of what nobody else needs in this step."""
        if not drafts:
            return
        by_name = {state.request.request_id: state for state in self._lanes.interactive.decoding}
        for chunk in output.chunks[: output.num_decodes]:
            count, state = drafts.get(chunk.request_id, 0), by_name[chunk.request_id]
            if not count:
                continue
            # The last token that it may have is sampled, not computed.
            budget = self._budget - output.num_batched_tokens
            count = min(count, budget, state.max_len - 1 - len(state.token_ids))
            end, kv = chunk.start + 1 + count, state.kv
            reserve = self._lanes.num_running
            if end > kv.capacity and self._kv.grow(kv, chunk.start, end, reserve):
                self._tell_changes(state, chunk)
            count = min(count, kv.capacity - chunk.start - 1)
            if count > 0:
                chunk.token_ids = [*chunk.token_ids, *[0] * count]
                chunk.num_drafted = count
                output.num_batched_tokens += count

    def _make_room(self, state: RequestState, end: int, output: SchedulerOutput) -> bool:
        """Blocks for tokens up to `end`, preempting from the back; False if that hit `state`."""
        while not self._kv.grow(state.kv, state.num_computed, end):
            victim = self._lanes.last_running()
            if victim.phase is Phase.DECODE and victim is not state:
                self._take_back(victim, output)
            self._lanes.preempt(victim, self._now)
            if victim is state:
                return False
        state.limit = min(state.kv.capacity, state.max_len - 1)
        return True

    def _take_back(self, victim: RequestState, output: SchedulerOutput) -> None:
        """Its decode may be in this step's output already."""
        if victim.chunk in output.chunks:
            output.chunks.remove(victim.chunk)
            output.num_decodes -= 1
            output.num_batched_tokens -= 1

    def _tell_changes(self, state: RequestState, chunk: ScheduledChunk) -> None:
        found = self._kv.take_changes(state.kv)
        chunk.new_blocks = [
            [*told, *new] for told, new in zip(chunk.new_blocks, found, strict=True)
        ]
        self._changed.append(chunk)
