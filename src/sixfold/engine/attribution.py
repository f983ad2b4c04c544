"""Where each request's time went: parts whose sum is all of it, also up to its first token.

While requests decode, every step takes the same from each of them: it is added up once, and a
request takes the difference between the sums at its beginning and its end. So a step costs the
same however many decode. Backfill, which is not in every step, is booked one by one. Not here:
measuring (engine.py), what the API adds (serving).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sixfold.core.request import Timings
from sixfold.engine.scheduler.output import ScheduledChunk, SchedulerOutput

PARTS = (
    "http", "queue", "preempted", "wait", "prefill", "recompute", "interference", "backfill",
    "decode", "sampling", "speculation", "offload", "detokenise", "engine",
)  # fmt: skip
"""Names of parts: before the engine had it (tokenising, the way there); waiting to start; waiting
to start again; running, but not in a step; its own prompt; the same once more; others' prompts in
its steps; what steps took longer because of backfill, while the request was in or waited for them
(of interactive requests); decoding; choosing tokens; guessing tokens, and wrong guesses; loading
offloaded blocks; making text; what is left of a step: scheduling, arrays, messages."""

_PLACE = {name: place for place, name in enumerate(PARTS)}


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step's seconds. `ended` of the step before to `began` nobody computed."""

    before: float
    began: float
    ended: float
    forward: float
    """Layers and output projection."""
    sampling: float
    drafting: float
    wasted: float
    """Of `forward`, for guesses that were wrong."""
    loading: float
    detokenise: float
    backfill: float = 0.0
    """Of `forward`, what it would not have taken without backfill."""


@dataclass(slots=True)
class _Account:
    parts: list[float]
    state: str
    """waiting, preempted, prefilling or decoding."""
    since: float
    """When it came to be waiting or preempted; else up to when its time is booked."""
    sums: list[float]
    """Of all decoding, when its own began."""
    backfill: bool = False
    """It yields to others: what backfill takes of its time is its own."""
    waited: float = 0.0
    """When it came to be waiting or preempted: seconds of steps that backfill had taken so far."""
    computed_again: bool = False
    first_token: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The part that its rows in a step count for."""
        if self.state == "decoding":
            return "decode"
        return "recompute" if self.computed_again else "prefill"


@dataclass(frozen=True, slots=True)
class _Prompts:
    """A step's rows; pairs are of interactive requests and of backfill."""

    own: dict[str, int]
    """Prompt tokens by request."""
    tokens: list[int]
    rows: list[int]

    def share(self, is_backfill: bool, own: int = 0) -> float:
        """Others' prompts, as a part of the rows that a request looks at: backfill sees all."""
        tokens = sum(self.tokens) if is_backfill else self.tokens[0]
        rows = sum(self.rows) if is_backfill else self.rows[0]
        return (tokens - own) / rows if rows else 0.0


class Attribution:
    """Accounts of all live requests. Times are on the requests' clock."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._single: dict[str, _Account] = {}
        """Those booked one by one: prefilling, and backfill that decodes."""
        self._decoding = [0.0] * len(PARTS)
        self._ended = 0.0
        """Up to when `_decoding` goes."""
        self._backfill = 0.0
        """Seconds of all steps that backfill has taken."""
        self._last: StepTime | None = None

    def add(self, request_id: str, arrived: float, now: float, backfill: bool = False) -> None:
        """A request is queued; it arrived at the API some time before."""
        parts = [0.0] * len(PARTS)
        lost = 0.0 if backfill else self._lost_since(arrived)
        parts[_PLACE["http"]] = max(0.0, now - arrived - lost)
        parts[_PLACE["backfill"]] = lost
        self._accounts[request_id] = _Account(
            parts, "waiting", now, [], backfill, waited=self._backfill
        )

    def step(self, output: SchedulerOutput, sampled: Iterable[str], time: StepTime) -> None:
        """Book a step that was run; `sampled`: who has got tokens."""
        for name in output.preempted:
            self._preempt(name, time.began)
        rows, prompts = self._count(output.chunks)
        self._book_single(rows, prompts, time)
        _add(self._decoding, "decode", prompts.share(False), time, time.before)
        self._ended = time.ended
        self._backfill += time.backfill
        self._last = time
        for name in sampled:
            account = self._accounts.get(name)
            if account is not None and account.state == "prefilling":
                self._begin_decoding(name, account)

    def end(self, request_id: str, now: float, timings: Timings) -> None:
        """A request is over: write its parts into `timings`."""
        account = self._accounts.pop(request_id, None)
        if account is None:
            return
        self._single.pop(request_id, None)
        self._settle(account, now)
        timings.parts = _named(account.parts)
        timings.first_token = account.first_token

    def forget(self, request_id: str) -> None:
        """A request is over, and nobody asks."""
        self._accounts.pop(request_id, None)
        self._single.pop(request_id, None)

    def _decodes(self, name: str) -> bool:
        account = self._accounts.get(name)
        return account is not None and account.state == "decoding"

    def _lost_since(self, arrived: float) -> float:
        """Who comes during a step waits longer for its end, by the part that backfill has in it."""
        last = self._last
        if last is None or not last.backfill or last.ended <= arrived:
            return 0.0
        whole = last.ended - last.before
        return last.backfill * min(1.0, (last.ended - arrived) / whole) if whole > 0.0 else 0.0

    def _preempt(self, name: str, now: float) -> None:
        account = self._accounts.get(name)
        if account is None:
            return
        self._settle(account, now)
        self._single.pop(name, None)
        account.state, account.since, account.computed_again = "preempted", now, True
        account.waited = self._backfill

    def _count(self, chunks: list[ScheduledChunk]) -> tuple[dict[str, int], "_Prompts"]:
        """Rows of each request in the step; and those of prompts, with and without backfill."""
        prompts = _Prompts({}, [0, 0], [0, 0])
        rows: dict[str, int] = {}
        for chunk in chunks:
            rows[chunk.request_id] = count = len(chunk.token_ids)
            prompts.rows[chunk.backfill] += count
            if not self._decodes(chunk.request_id):
                prompts.own[chunk.request_id] = count
                prompts.tokens[chunk.backfill] += count
        return rows, prompts

    def _book_single(self, rows: dict[str, int], prompts: "_Prompts", time: StepTime) -> None:
        for name in prompts.own:
            account = self._accounts.get(name)
            if account is not None and account.state != "prefilling":
                self._settle(account, time.began)
                account.state = "prefilling"
                self._single[name] = account
        for name, account in self._single.items():
            if name in rows:
                others = prompts.share(account.backfill, prompts.own.get(name, 0))
                _add(account.parts, account.kind, others, time, account.since, account.backfill)
            else:
                waited = time.ended - account.since
                lost = 0.0 if account.backfill else min(waited, time.backfill)
                account.parts[_PLACE["backfill"]] += lost
                account.parts[_PLACE["wait"]] += waited - lost
            account.since = time.ended

    def _begin_decoding(self, name: str, account: _Account) -> None:
        if not account.backfill:
            del self._single[name]
        account.state, account.sums = "decoding", list(self._decoding)
        if not account.first_token:
            account.first_token = _named(account.parts)

    def _settle(self, account: _Account, now: float) -> None:
        """Book what has gone by up to `now` in the state that ends."""
        if account.state in ("waiting", "preempted"):
            part = "queue" if account.state == "waiting" else "preempted"
            waited = max(0.0, now - account.since)
            lost = 0.0 if account.backfill else min(waited, self._backfill - account.waited)
            account.parts[_PLACE[part]] += waited - lost
            account.parts[_PLACE["backfill"]] += lost
        elif account.state == "prefilling" or account.backfill:
            account.parts[_PLACE["engine"]] += max(0.0, now - account.since)
        else:
            for place, (after, before) in enumerate(zip(self._decoding, account.sums, strict=True)):
                account.parts[place] += after - before
            # Since the last step, which it was in.
            account.parts[_PLACE["engine"]] += max(0.0, now - self._ended)
        account.since = now


def _add(
    parts: list[float], kind: str, others: float, time: StepTime, since: float,
    is_backfill: bool = False,
) -> None:  # fmt: skip
    """A step's time from `since` on; `others`: the part of its rows that are others' prompts."""
    lost = 0.0 if is_backfill else time.backfill
    forward = max(0.0, time.forward - time.wasted - lost)
    parts[_PLACE["backfill"]] += lost
    parts[_PLACE["interference"]] += forward * others
    parts[_PLACE[kind]] += forward * (1.0 - others)
    parts[_PLACE["sampling"]] += time.sampling
    parts[_PLACE["speculation"]] += time.drafting + time.wasted
    parts[_PLACE["offload"]] += time.loading
    parts[_PLACE["detokenise"]] += time.detokenise
    known = time.forward + time.sampling + time.drafting + time.loading + time.detokenise
    parts[_PLACE["engine"]] += max(0.0, time.ended - since - known)


def _named(parts: list[float]) -> dict[str, float]:
    return {name: seconds for name, seconds in zip(PARTS, parts, strict=True) if seconds}
