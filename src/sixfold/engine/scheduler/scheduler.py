"""The scheduler: which tokens of which requests the next step computes.

One rule. A request has tokens (prompt and output) and some of them are computed; each step hands
out a budget of tokens: to decoding requests first, then to prefills that have begun, then to
waiting requests. Continuous batching, chunked prefill, prefix hits and recomputation after
preemption are cases of it. Pure: no clock, randomness, threads or I/O.

Not here: block tables and the prefix cache (kvcache), when an output is over by its content
(engine/output.py). The caller runs every output's chunks as a whole and then calls
`update_from_output`; if that fails, it aborts the requests of all its chunks.
"""

from collections.abc import Mapping, Sequence

from sixfold.core.errors import RequestError
from sixfold.core.request import EngineRequest, Timings
from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.kvcache.prefix_cache import Match
from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.deadlines import Deadlines
from sixfold.engine.scheduler.limits import checked_max_len
from sixfold.engine.scheduler.output import ScheduledChunk, SchedulerOutput, SchedulerStats
from sixfold.engine.scheduler.policy import ORDERS, OrderedRequests, make_admission
from sixfold.engine.scheduler.state import NO_CHUNK, Phase, RequestState


class Scheduler:
    """Requests in, one `SchedulerOutput` per step out.

    Progress: requests are totally ordered, and only the last in that order is preempted. So the
    first one always gets on, and since it fits into the pools alone (checked by `add`), it ends.
    """

    def __init__(self, config: SchedulerConfig, kv: KVCacheManager) -> None:
        self._config = config
        self._kv = kv
        self._order = ORDERS[config.policy]
        # A decoding request takes one token of the budget: more could not all advance.
        self._max_running = min(config.max_num_seqs, config.max_num_batched_tokens)
        self._admission = make_admission(config.batching, self._max_running, config.max_batch_delay)
        self._requests: dict[str, RequestState] = {}
        self._waiting = OrderedRequests()
        self._prefilling = OrderedRequests()
        self._decoding = OrderedRequests()
        self._free_slots = list(range(config.max_num_seqs - 1, -1, -1))
        self._deadlines = Deadlines(self._is_alive)
        self._ended: dict[str, Timings] = {}
        self._preempted: list[str] = []
        self._changed: list[ScheduledChunk] = []
        self._admitted: list[RequestState] = []
        self._no_changes: Sequence[Sequence[tuple[int, int]]] = tuple(() for _ in kv.pools)
        self._arrivals = 0
        self._preemptions = 0
        self._now = 0.0

    # ---- requests in and out

    def add(self, request: EngineRequest) -> None:
        """Queue a request. Raises RequestError if it could never run; nothing changes then."""
        if request.request_id in self._requests:
            raise RequestError("request_id is in use", "choose another", param="request_id")
        # The last token is never computed, so it needs no room.
        room = self._kv.max_tokens_alone(self._config.max_num_batched_tokens) + 1
        max_len = checked_max_len(request, self._config.max_model_len, room)
        state = RequestState(
            request=request,
            order=(self._order(request), self._arrivals),
            token_ids=list(request.prompt_token_ids),
            max_len=max_len,
            kv=self._kv.new_sequence(request.cache_salt),
            stamp=request.arrival_time,
        )
        self._arrivals += 1
        self._requests[request.request_id] = state
        self._waiting.add(state)
        if request.deadline is not None:
            self._deadlines.add(request.deadline, state.order[1], request.request_id)

    def abort(self, request_id: str) -> bool:
        """End a request in whatever phase it is; its blocks are free on return.

        False if there is no such request (any more).
        """
        state = self._requests.get(request_id)
        if state is None:
            return False
        self._end(state, self._now)
        return True

    def finish(self, request_id: str) -> None:
        """A request is complete: call it after `update_from_output`, so that its blocks are kept
        for others as long as nobody needs their place."""
        self._end(self._requests[request_id], self._now)

    def preempt(self, request_id: str) -> bool:
        """Send a running request back to the queue (tests, experiments); False if none runs."""
        state = self._requests.get(request_id)
        if state is None or state.phase is Phase.WAITING:
            return False
        self._preempt(state)
        return True

    def reached_max_len(self, request_id: str) -> bool:
        """True if the request may not get longer (max_tokens, max_model_len): finish it."""
        state = self._requests[request_id]
        return len(state.token_ids) >= state.max_len

    def timings(self, request_id: str) -> Timings:
        """Of a live request up to the last `now`; of one that ended, until the next `schedule`."""
        state = self._requests.get(request_id)
        if state is None:
            return self._ended[request_id]
        state.book(self._now)
        return state.timings

    def reset_prefix_cache(self) -> bool:
        """Forget all cached prefixes. Running requests go on; True: it is always done."""
        return self._kv.reset_prefix_cache()

    def stats(self) -> SchedulerStats:
        """Gauges of now, and counters since the start."""
        return SchedulerStats(
            running=self.num_running,
            waiting=len(self._waiting),
            kv_cache_usage=self._kv.usage,
            prefix_cache_queries=self._kv.queries,
            prefix_cache_hits=self._kv.hits,
            preemptions=self._preemptions,
        )

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return len(self._prefilling) + len(self._decoding)

    # ---- the step

    def schedule(self, now: float, drafts: Mapping[str, int] | None = None) -> SchedulerOutput:
        """Hand out the token budget; `now` drops what is past its deadline and stamps timings.

        `drafts`: tokens to be guessed for decoding requests, where budget and blocks are left.
        """
        self._now = now
        self._ended.clear()
        self._admitted.clear()
        for chunk in self._changed:
            chunk.new_blocks = self._no_changes
        self._changed.clear()
        output = SchedulerOutput(expired=self._expire(now))
        self._schedule_decodes(output)
        output.num_batched_tokens = len(output.chunks)
        if self._prefilling:
            self._schedule_prefills(output)
        # What was just preempted would only take its place again.
        if self._waiting and not self._preempted:
            self._schedule_waiting(output)
        if drafts:
            self._add_drafts(output, drafts)
        output.preempted, self._preempted = self._preempted, []
        return output

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, Sequence[int]], now: float
    ) -> None:
        """Take in a step that was run: `sampled` has for each sampling request its new token, and
        before it those drafted ones that were right.

        Requests that ended since `schedule` are passed over. One without an entry in `sampled`
        stays where it was.
        """
        self._now = now
        for chunk in output.chunks:
            state = self._requests.get(chunk.request_id)
            if state is None or state.chunk is not chunk:
                continue
            if not chunk.samples:
                self._computed(state, chunk.start + len(chunk.token_ids))
                continue
            tokens = sampled.get(chunk.request_id)
            if tokens is None:
                continue
            state.token_ids += tokens
            state.output += tokens
            if state.phase is Phase.DECODE:
                state.num_computed = computed = chunk.start + len(tokens)
                if computed >= state.limit:
                    self._kv.commit(state.kv, state.token_ids, computed)
            else:
                self._computed(state, chunk.start + len(chunk.token_ids))
                self._begin_decoding(state, now)

    def unadmit(self, output: SchedulerOutput) -> None:
        """A block could not be loaded: who began in this step waits again, as if it had not.

        All of them, since one may have counted on another's blocks.
        """
        for state in self._admitted:
            output.chunks.remove(state.chunk)
            output.num_batched_tokens -= len(state.chunk.token_ids)
            if not state.timings.preemptions and not state.needs_all:
                self._kv.count_lookup(-len(state.token_ids), -state.timings.cached_tokens)
                state.was_admitted = False
            self._leave(state)
            state.enter(Phase.WAITING, self._now)
            self._waiting.add(state)
        self._admitted.clear()

    def _schedule_decodes(self, output: SchedulerOutput) -> None:
        append = output.chunks.append
        for state in self._decoding:
            if state.num_computed >= state.limit and not self._extend_decode(state, output):
                continue
            chunk = state.chunk
            chunk.start = state.num_computed
            if chunk.num_drafted:
                chunk.token_ids, chunk.num_drafted = [0], 0
            chunk.token_ids[0] = state.token_ids[-1]
            append(chunk)

    def _add_drafts(self, output: SchedulerOutput, drafts: Mapping[str, int]) -> None:
        """Places for guessed tokens behind decodes, out of what nobody else needs in this step."""
        for chunk in output.chunks:
            count = drafts.get(chunk.request_id, 0)
            state = self._requests[chunk.request_id]
            if not count or state.phase is not Phase.DECODE:
                continue
            budget = self._config.max_num_batched_tokens - output.num_batched_tokens
            # The last token that it may have is sampled, not computed.
            count = min(count, budget, state.max_len - 1 - len(state.token_ids))
            end, kv = chunk.start + 1 + count, state.kv
            if end > kv.capacity and self._kv.grow(kv, chunk.start, end, self.num_running):
                self._tell_changes(state, chunk)
            count = min(count, state.kv.capacity - chunk.start - 1)
            if count > 0:
                chunk.token_ids = [*chunk.token_ids, *[0] * count]
                chunk.num_drafted = count
                output.num_batched_tokens += count

    def _extend_decode(self, state: RequestState, output: SchedulerOutput) -> bool:
        """Get the next block; False if the request had to give way."""
        assert len(state.token_ids) < state.max_len, "the caller finishes what reached its length"
        if not self._make_room(state, state.num_computed + 1, output):
            return False
        self._tell_changes(state, state.chunk)
        return True

    def _schedule_prefills(self, output: SchedulerOutput) -> None:
        for state in self._prefilling:
            count = self._affordable(state, output)
            if count == 0:
                break
            if self._make_room(state, state.num_computed + count, output):
                self._append_prefill(state, count, output)

    def _schedule_waiting(self, output: SchedulerOutput) -> None:
        self._admission.begin_step(self._waiting, self._now)
        index = 0
        while index < len(self._waiting):
            state = self._waiting[index]
            if self.num_running >= self._max_running or not self._affordable(state, output):
                break
            if not self._admission.admits(state):
                index += 1
                continue
            if state.needs_all:
                match = self._kv.no_match
            else:
                match = self._kv.match(state.kv, state.token_ids)
            if match.in_flight:
                index += 1
            elif not self._admit(state, match, output):
                break

    def _admit(self, state: RequestState, match: Match, output: SchedulerOutput) -> bool:
        """Start a waiting request if its blocks are there, with some left for those that run."""
        tokens, start = state.token_ids, match.num_tokens
        budget = self._config.max_num_batched_tokens - output.num_batched_tokens
        count = min(len(tokens) - start, budget)
        reserve = self.num_running
        if not self._kv.admit(state.kv, match, tokens, start + count, reserve):
            return False
        self._waiting.remove(state)
        self._prefilling.add(state)
        state.slot = self._free_slots.pop()
        state.enter(Phase.PREFILL, self._now)
        state.num_computed = start
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
        budget = self._config.max_num_batched_tokens - output.num_batched_tokens
        return min(len(state.token_ids) - state.num_computed, budget)

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
        )
        output.chunks.append(state.chunk)
        output.num_batched_tokens += count

    def _make_room(self, state: RequestState, end: int, output: SchedulerOutput) -> bool:
        """Blocks for tokens up to `end`, preempting from the back; False if that hit `state`."""
        while not self._kv.grow(state.kv, state.num_computed, end):
            victim = self._last_running()
            if victim.phase is Phase.DECODE and victim is not state:
                self._take_back(victim, output)
            self._preempt(victim)
            if victim is state:
                return False
        state.limit = min(state.kv.capacity, state.max_len - 1)
        return True

    def _last_running(self) -> RequestState:
        ends = [s for s in (self._prefilling.last(), self._decoding.last()) if s is not None]
        return max(ends, key=lambda state: state.order)

    def _take_back(self, victim: RequestState, output: SchedulerOutput) -> None:
        """Its decode may be in this step's output already."""
        if victim.chunk in output.chunks:
            output.chunks.remove(victim.chunk)
            output.num_batched_tokens -= 1

    def _tell_changes(self, state: RequestState, chunk: ScheduledChunk) -> None:
        found = self._kv.take_changes(state.kv)
        chunk.new_blocks = [
            [*told, *new] for told, new in zip(chunk.new_blocks, found, strict=True)
        ]
        self._changed.append(chunk)

    def _computed(self, state: RequestState, num_computed: int) -> None:
        state.num_computed = num_computed
        self._kv.commit(state.kv, state.token_ids, num_computed)

    def _begin_decoding(self, state: RequestState, now: float) -> None:
        self._prefilling.remove(state)
        self._decoding.add(state)
        state.enter(Phase.DECODE, now)
        state.limit = min(state.kv.capacity, state.max_len - 1)
        state.chunk = ScheduledChunk(
            state.request.request_id, state.slot, 0, [0], True, self._no_changes
        )

    # ---- ends

    def _expire(self, now: float) -> list[str]:
        expired = []
        for request_id in self._deadlines.passed(now):
            self._end(self._requests[request_id], now)
            expired.append(request_id)
        return expired

    def _is_alive(self, request_id: str, arrival: int) -> bool:
        state = self._requests.get(request_id)
        return state is not None and state.order[1] == arrival

    def _end(self, state: RequestState, now: float) -> None:
        state.book(now)
        if state.phase is Phase.WAITING:
            self._waiting.remove(state)
        else:
            self._leave(state)
        self._admission.ended(state)
        request_id = state.request.request_id
        del self._requests[request_id]
        self._ended[request_id] = state.timings
        self._deadlines.prune(len(self._requests))

    def _preempt(self, state: RequestState) -> None:
        """Recompute later: the request waits again, in its old place of the order."""
        self._leave(state)
        state.enter(Phase.WAITING, self._now)
        state.timings.preemptions += 1
        self._preemptions += 1
        self._preempted.append(state.request.request_id)
        self._waiting.add(state)

    def _leave(self, state: RequestState) -> None:
        running = self._decoding if state.phase is Phase.DECODE else self._prefilling
        running.remove(state)
        self._kv.free(state.kv)
        self._free_slots.append(state.slot)
        state.slot, state.chunk = -1, NO_CHUNK
        state.num_computed = state.limit = 0
