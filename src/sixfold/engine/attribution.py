"""Where each request's time went: parts whose sum is all of it, also up to its first token.

While requests decode, every step takes the same from each of them: it is added up once, and a
request takes the difference between the sums at its beginning and its end. So a step costs the
same however many decode. Not here: measuring (engine.py), what the API adds (serving).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sixfold.core.request import Timings
from sixfold.engine.scheduler.output import SchedulerOutput

PARTS = (
    "http", "queue", "preempted", "wait", "prefill", "recompute", "interference", "decode",
    "sampling", "speculation", "offload", "detokenise", "engine",
)  # fmt: skip
"""Names of parts: before the engine had it (tokenising, the way there); waiting to start; waiting
to start again; running, but not in a step; its own prompt; the same once more; others' prompts in
its steps; decoding; choosing tokens; guessing tokens, and wrong guesses; loading offloaded blocks;
making text; what is left of a step: scheduling, arrays, messages."""

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


@dataclass(slots=True)
class _Account:
    parts: list[float]
    state: str
    """waiting, preempted, prefilling or decoding."""
    since: float
    """When it came to be waiting or preempted; else up to when its time is booked."""
    sums: list[float]
    """Of all decoding, when its own began."""
    computed_again: bool = False
    first_token: dict[str, float] = field(default_factory=dict)


class Attribution:
    """Accounts of all live requests. Times are on the requests' clock."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._prefilling: dict[str, _Account] = {}
        self._decoding = [0.0] * len(PARTS)
        self._ended = 0.0
        """Up to when `_decoding` goes."""

    def add(self, request_id: str, arrived: float, now: float) -> None:
        """A request is queued; it arrived at the API some time before."""
        parts = [0.0] * len(PARTS)
        parts[_PLACE["http"]] = max(0.0, now - arrived)
        self._accounts[request_id] = _Account(parts, "waiting", now, [])

    def step(self, output: SchedulerOutput, sampled: Iterable[str], time: StepTime) -> None:
        """Book a step that was run; `sampled`: who has got tokens."""
        for name in output.preempted:
            self._preempt(name, time.began)
        decodes = sum(len(c.token_ids) for c in output.chunks if self._decodes(c.request_id))
        prompts = {c.request_id: len(c.token_ids) for c in output.chunks
                   if not self._decodes(c.request_id)}  # fmt: skip
        rows = decodes + sum(prompts.values())
        self._book_prefills(prompts, rows, time)
        share = sum(prompts.values()) / rows if rows else 0.0
        _add(self._decoding, "decode", share, time, time.before)
        self._ended = time.ended
        for name in sampled:
            account = self._accounts.get(name)
            if account is not None and account.state == "prefilling":
                self._begin_decoding(name, account)

    def end(self, request_id: str, now: float, timings: Timings) -> None:
        """A request is over: write its parts into `timings`."""
        account = self._accounts.pop(request_id, None)
        if account is None:
            return
        self._prefilling.pop(request_id, None)
        self._settle(account, now)
        timings.parts = _named(account.parts)
        timings.first_token = account.first_token

    def forget(self, request_id: str) -> None:
        """A request is over, and nobody asks."""
        self._accounts.pop(request_id, None)
        self._prefilling.pop(request_id, None)

    def _decodes(self, name: str) -> bool:
        account = self._accounts.get(name)
        return account is not None and account.state == "decoding"

    def _preempt(self, name: str, now: float) -> None:
        account = self._accounts.get(name)
        if account is None:
            return
        self._settle(account, now)
        self._prefilling.pop(name, None)
        account.state, account.since, account.computed_again = "preempted", now, True

    def _book_prefills(self, prompts: dict[str, int], rows: int, time: StepTime) -> None:
        for name in prompts:
            account = self._accounts.get(name)
            if account is not None and account.state != "prefilling":
                self._settle(account, time.began)
                account.state = "prefilling"
                self._prefilling[name] = account
        for name, account in self._prefilling.items():
            own = prompts.get(name, 0)
            if not own:
                account.parts[_PLACE["wait"]] += time.ended - account.since
            else:
                others = (sum(prompts.values()) - own) / rows
                kind = "recompute" if account.computed_again else "prefill"
                _add(account.parts, kind, others, time, account.since)
            account.since = time.ended

    def _begin_decoding(self, name: str, account: _Account) -> None:
        del self._prefilling[name]
        account.state, account.sums = "decoding", list(self._decoding)
        if not account.first_token:
            account.first_token = _named(account.parts)

    def _settle(self, account: _Account, now: float) -> None:
        """Book what has gone by up to `now` in the state that ends."""
        if account.state == "decoding":
            for place, (after, before) in enumerate(zip(self._decoding, account.sums, strict=True)):
                account.parts[place] += after - before
            # Since the last step, which it was in.
            account.parts[_PLACE["engine"]] += max(0.0, now - self._ended)
        elif account.state == "prefilling":
            account.parts[_PLACE["engine"]] += max(0.0, now - account.since)
        else:
            part = "queue" if account.state == "waiting" else "preempted"
            account.parts[_PLACE[part]] += max(0.0, now - account.since)
        account.since = now


def _add(parts: list[float], kind: str, others: float, time: StepTime, since: float) -> None:
    """A step's time from `since` on; `others`: the part of its rows that are others' prompts."""
    forward = time.forward - time.wasted
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
