"""The scheduler: which tokens of which requests the next step computes.

One rule. A request has tokens (prompt and output) and some of them are computed; each step hands
out a budget of tokens: to decoding requests first, then to prefills that have begun, then to
waiting requests; and what is left in the same order to backfill. Continuous batching, chunked
prefill, prefix hits and recomputation after preemption are cases of it. Pure: no clock, randomness,
threads or I/O.

Not here: handing the budget out (planner.py), how much of it backfill may have (backfill.py), block
tables and the prefix cache (kvcache), when an output is over by its content (engine/output.py). The
caller runs every output's chunks as a whole and then calls `update_from_output`; if that fails, it
aborts the requests of all its chunks.
"""

from collections.abc import Mapping, Sequence

from sixfold.core.errors import RequestError
from sixfold.core.request import EngineRequest, Timings
from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.scheduler.backfill import Backfill
from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.deadlines import Deadlines
from sixfold.engine.scheduler.lanes import Lanes
from sixfold.engine.scheduler.limits import checked_max_len
from sixfold.engine.scheduler.output import SchedulerOutput, SchedulerStats
from sixfold.engine.scheduler.planner import Planner
from sixfold.engine.scheduler.policy import ORDERS, ContinuousBatching, make_admission
from sixfold.engine.scheduler.state import Phase, RequestState


class Scheduler:
    """Requests in, one `SchedulerOutput` per step out."""

    def __init__(self, config: SchedulerConfig, kv: KVCacheManager) -> None:
        self._config = config
        self._kv = kv
        self._order = ORDERS[config.policy]
        size = min(config.max_num_seqs, config.max_num_batched_tokens)
        admission = make_admission(config.batching, size, config.max_batch_delay)
        # However interactive requests are batched, backfill takes the slots that they leave.
        self._lanes = Lanes(admission, ContinuousBatching(), config.max_num_seqs, kv)
        self._planner = Planner(config, kv, self._lanes)
        self._backfill = Backfill(config, self._lanes)
        self._requests: dict[str, RequestState] = {}
        self._deadlines = Deadlines(self._is_alive)
        self._ended: dict[str, Timings] = {}
        self._arrivals = 0
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
            order=(request.backfill, self._order(request), self._arrivals),
            token_ids=list(request.prompt_token_ids),
            max_len=max_len,
            kv=self._kv.new_sequence(request.cache_salt),
            stamp=request.arrival_time,
        )
        self._arrivals += 1
        self._requests[request.request_id] = state
        self._lanes.lane(state).waiting.add(state)
        self._backfill.arrived(state, self._now, idle=len(self._requests) == 1)
        if request.deadline is not None:
            self._deadlines.add(request.deadline, state.order[-1], request.request_id)

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
        state = self._requests[request_id]
        self._backfill.finished(state, self._now)
        self._end(state, self._now)

    def preempt(self, request_id: str) -> bool:
        """Send a running request back to the queue (tests, experiments); False if none runs."""
        state = self._requests.get(request_id)
        if state is None or state.phase is Phase.WAITING:
            return False
        self._lanes.preempt(state, self._now)
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
            waiting=self._lanes.num_waiting,
            kv_cache_usage=self._kv.usage,
            prefix_cache_queries=self._kv.queries,
            prefix_cache_hits=self._kv.hits,
            preemptions=self._lanes.preemptions,
            backfill=self._backfill.stats(),
        )

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return self._lanes.num_running

    @property
    def backfill_rows(self) -> int:
        """Tokens that the last step computed for backfill: the next one holds about as many."""
        return self._backfill.rows

    # ---- the step

    def schedule(self, now: float, drafts: Mapping[str, int] | None = None) -> SchedulerOutput:
        """Hand out the token budget; `now` drops what is past its deadline and stamps timings.

        `drafts`: tokens to be guessed for decoding interactive requests, where budget and blocks
        are left.
        """
        self._now = now
        self._ended.clear()
        self._backfill.begins(now)
        output = SchedulerOutput(expired=self._expire(now))
        self._planner.plan(output, now, drafts or {}, self._backfill.allow)
        return output

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, Sequence[int]], now: float
    ) -> None:
        """Take in a step that was run: `sampled` has for each sampling request its new token, and
        before it those drafted ones that were right.

        Requests that ended since `schedule` are passed over. One without an entry in `sampled`
        stays where it was.
        """
        self._backfill.ran(output, self._now, now)
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
                self._lanes.begin_decoding(state, now)
                self._backfill.began_decoding(state, now)

    def unadmit(self, output: SchedulerOutput) -> None:
        """A block could not be loaded: who began in this step waits again, as if it had not.

        All of them, since one may have counted on another's blocks.
        """
        self._planner.unadmit(output)

    def _computed(self, state: RequestState, num_computed: int) -> None:
        state.num_computed = num_computed
        self._kv.commit(state.kv, state.token_ids, num_computed)

    # ---- ends

    def _expire(self, now: float) -> list[str]:
        expired = []
        for request_id in self._deadlines.passed(now):
            self._end(self._requests[request_id], now)
            expired.append(request_id)
        return expired

    def _is_alive(self, request_id: str, arrival: int) -> bool:
        state = self._requests.get(request_id)
        return state is not None and state.order[-1] == arrival

    def _end(self, state: RequestState, now: float) -> None:
        state.book(now)
        self._lanes.remove(state)
        request_id = state.request.request_id
        del self._requests[request_id]
        self._ended[request_id] = state.timings
        self._deadlines.prune(len(self._requests))
