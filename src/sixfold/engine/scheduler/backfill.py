"""How much backfill a step may hold: slack that interactive requests can spare. Pure.

A request that is ahead of the latency that one in twenty of its kind would have alone, made worse
by the slowdown that the user allows, lends what it is ahead by; one that is behind gets steps
without backfill. So backfill takes its time from those who do not need it, and the percentile
stays. Nothing guarantees progress: while interactive requests need everything, backfill waits.

Not here: costs of steps (step_cost.py), percentiles (slowdown.py), who runs (planner.py).
"""

import math
from itertools import chain

from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.lanes import Lanes
from sixfold.engine.scheduler.output import BackfillStats, SchedulerOutput
from sixfold.engine.scheduler.slowdown import Latency, StepShare
from sixfold.engine.scheduler.state import RequestState
from sixfold.engine.scheduler.step_cost import SHORTEST, LearnedCost, Work

RECENT = 60.0
"""Seconds after the last interactive request in which the next one is expected at any moment."""
SMALLEST = 1.5
"""With nobody there, a step may always take so many times what one row takes: else nothing ran."""
LOOKED_AT = 64
"""Waiting requests whose first tokens are reckoned up; those behind have no time to lend."""
SELDOM = 8
"""Without backfill, costs are followed by one step of so many: nobody should pay for them."""
FOLLOWED = 0.05
"""How much one request counts in an average of them."""


class Allowance:
    """What one step may hold of backfill: asked piece by piece, and each piece is booked."""

    def __init__(self, cost: LearnedCost, work: Work, seconds: float) -> None:
        """`seconds` on top of what `work` takes, which is in the step already; inf: no limit."""
        self.seconds = seconds
        self._cost = cost
        self._work = work
        self._end = cost.seconds(work) + seconds

    def takes_decode(self, context: int) -> bool:
        """One more decode row that reads `context` tokens: booked if it fits."""
        more = self._work.plus(1, 0, context)
        late = self._cost.seconds(more) > self._end and not self._empty
        if self.seconds <= 0.0 or late:
            return False
        self._work = more
        return True

    def prompt_tokens(self, most: int, context: int) -> int:
        """How many of `most` prompt tokens behind `context` others fit."""
        if self.seconds <= 0.0 or most <= 0:
            return 0
        if math.isinf(self.seconds):
            return most
        left = self._end - self._cost.seconds(self._work.plus(0, 1, context))
        if left < 0.0:
            return 1 if self._empty else 0
        each = self._cost.prompt_token
        return most if each * (most - 1) <= left else 1 + int(left / each)

    @property
    def _empty(self) -> bool:
        """A step that may be run at all may hold a token, or it would not be run."""
        return not self._work.rows and not self._work.prompt

    def take_prompt(self, count: int, context: int) -> None:
        """Book what `prompt_tokens` granted."""
        self._work = self._work.plus(0, count, context)


class Backfill:
    """Follows steps and interactive requests, and says what the next step may hold."""

    def __init__(self, config: SchedulerConfig, lanes: Lanes) -> None:
        self.limit = math.inf
        """Seconds of backfill that the last step might have held; inf: no limit."""
        self.rows = 0
        """Tokens of backfill in the last step."""
        self.prompt_tokens = self.generated = 0
        """Computed for backfill since the start."""
        self._slowdown = config.interactive_slowdown
        self._budget = config.max_num_batched_tokens
        self._lanes = lanes
        self._cost = LearnedCost()
        self._first = Latency(self._slowdown, scale=0.5, gain=0.1)
        self._each = Latency(self._slowdown, scale=1.0, gain=0.05)
        self._backfill, self._own, self._prompts = StepShare(), StepShare(), StepShare()
        """Of all steps: seconds of backfill; of decodes, as many as there would be without it; and
        of interactive requests' prompts."""
        self._shorter = 1.0
        """How long decoding would take without backfill, as a part of what it takes."""
        self._steps = 0
        self._last_arrival = -math.inf
        self._last: tuple[Work, float, float] | None = None
        """The step before: what it held, when it began and when its results were there."""

    # ---- what happens

    def arrived(self, state: RequestState, now: float, idle: bool) -> None:
        """A request has come; `idle`: nobody else was there."""
        if idle:
            self._paused()
        state.arrived = state.request.arrival_time or now
        if not state.request.backfill:
            self._last_arrival = max(self._last_arrival, state.arrived)
            state.backfilled = self._backfill.at(state.arrived)

    def begins(self, now: float) -> None:
        """The next step is about to be planned: the one before took until now."""
        self._end(now)

    def ran(self, output: SchedulerOutput, began: float, ended: float) -> None:
        """A step was run."""
        work = ours = work_of(output, True)
        if len(self._lanes.backfill):
            ours = work_of(output, False)
        self._last = (work, began, ended)
        takes, needed = self._cost.seconds(work), self._cost.seconds(ours)
        if takes <= 0.0:
            needed, takes = float(ours.rows + ours.prompt), float(work.rows + work.prompt)
        share = 1.0 - needed / takes if takes else 0.0
        output.backfill_share = share
        self.rows = work.rows + work.prompt - ours.rows - ours.prompt
        self.prompt_tokens += work.prompt - ours.prompt
        self.generated += sum(chunk.backfill and chunk.samples for chunk in output.chunks)
        self._backfill.step(began, share)
        single = min(needed, self._cost.seconds(Work(1, 0, ours.context // max(1, ours.rows))))
        rows = self._cost.seconds(Work(ours.rows, 0, ours.context))
        met = self._shorter * max(0.0, rows - single)
        self._own.step(began, (single + met) / takes if takes else 0.0)
        self._prompts.step(began, max(0.0, needed - max(rows, single)) / takes if takes else 0.0)

    def began_decoding(self, state: RequestState, now: float) -> None:
        """A request has its first token, or goes on after it was preempted."""
        if state.request.backfill or len(state.output) != 1:
            return
        took = now - state.arrived
        backfill = self._backfill.at(now)
        self._first.take(took, took - (backfill - state.backfilled))
        state.first_token = now
        state.own, state.prompts = self._own.at(now), self._prompts.at(now)

    def finished(self, state: RequestState, now: float) -> None:
        """A request is complete."""
        gaps = len(state.output) - 1
        if not state.request.backfill and gaps > 0:
            took = now - state.first_token
            own, prompts = self._own.at(now) - state.own, self._prompts.at(now) - state.prompts
            without = alone(took, own, prompts)
            self._each.take(took / gaps, without / gaps)
            self._shorter += FOLLOWED * (without / took - self._shorter) if took > 0.0 else 0.0

    def stats(self) -> BackfillStats:
        """Gauges of now, and counters since the start."""
        lane = self._lanes.backfill
        return BackfillStats(
            lane.num_running, len(lane.waiting), self.limit, self.prompt_tokens, self.generated
        )

    # ---- what follows

    def allow(self, output: SchedulerOutput, now: float) -> Allowance:
        """What the step may hold of backfill on top of `output`, which has all of the others'."""
        ours = work_of(output, False)
        self.limit = max(0.0, self._seconds(ours, now))
        return Allowance(self._cost, ours, self.limit)

    def _seconds(self, ours: Work, now: float) -> float:
        anybody = len(self._lanes.interactive) > 0
        if not anybody and now - self._last_arrival > RECENT:
            return math.inf
        if not anybody and not self._cost.known:
            return math.inf  # a few steps, to learn from
        needed = self._cost.seconds(ours)
        if not self._cost.known or not self._first.known:
            lent = self._slowdown * needed
        else:
            # Whoever comes during the step may lose so much.
            lent = self._first.scale * self._first.margin
            lent = min(lent, self._lent_by_waiting(ours, now), self._lent_by_decoding(needed, now))
        if anybody:
            return lent
        # What no step has tried yet may seem to cost nothing; a token may be computed all the same.
        return max(lent, SMALLEST * self._cost.seconds(Work(rows=1)), SHORTEST)

    def _lent_by_waiting(self, ours: Work, now: float) -> float:
        """The least that those without a first token can spare, half of it in each step."""
        lane, least, tokens = self._lanes.interactive, math.inf, 0
        step = self._cost.seconds(Work(ours.rows, 0, ours.context))
        for looked_at, state in enumerate(chain(lane.prefilling, lane.waiting)):
            if looked_at == LOOKED_AT:
                return 0.0
            tokens += len(state.token_ids) - state.num_computed
            rest = tokens * self._cost.prompt_token + math.ceil(tokens / self._budget) * step
            least = min(least, self._first.limit - (now - state.arrived) - rest)
            if least <= 0.0:
                return 0.0
        return least / 2

    def _lent_by_decoding(self, needed: float, now: float) -> float:
        """The least that those who decode can spare: each is to stay ahead of its pace."""
        decoding, least = self._lanes.interactive.decoding, math.inf
        if not self._each.known:
            return self._slowdown * needed if len(decoding) else math.inf
        pace = self._each.scale * self._each.limit
        for state in decoding:
            least = min(least, pace * len(state.output) - (now - state.first_token))
        least -= needed
        # What piled up is not spent in one step: gaps between tokens would jump.
        return max(min(least, pace - needed), least / 2)

    # ---- what is learned

    def _paused(self) -> None:
        """Nothing has run for a while: the last step took until its results were there."""
        if self._last is not None:
            self._end(self._last[2])

    def _end(self, ended: float) -> None:
        """The last step took until then: text and messages are part of it."""
        if self._last is not None:
            work, began, _ = self._last
            self._steps += 1
            if len(self._lanes.backfill) or not self._cost.known or self._steps % SELDOM == 0:
                self._cost.learn(work, ended - began)
            self._backfill.pause(ended)
            self._own.pause(ended)
            self._prompts.pause(ended)
            self._last = None


def alone(took: float, own: float, prompts: float) -> float:
    """Seconds that decoding would have taken without backfill, of which `own` for decode rows.

    Not what it took less what backfill took: a request that is there for longer meets more prompts,
    and more other decodes. By Little's law both are in proportion to how long requests are there.
    For decodes `own` has seen to that; for prompts alone = own + prompts * alone / took.
    """
    return min(took, own / (1.0 - prompts / took)) if prompts < took else took


def work_of(output: SchedulerOutput, backfill: bool) -> Work:
    """What a step computes, with or without backfill."""
    rows = prompt = context = 0
    for place, chunk in enumerate(output.chunks):
        if chunk.backfill and not backfill:
            continue
        context += chunk.start
        if place < output.num_decodes:
            rows += len(chunk.token_ids)
        else:
            prompt += len(chunk.token_ids)
    return Work(rows, prompt, context)
