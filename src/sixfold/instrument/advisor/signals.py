"""The signals that symptoms are told by: their names, units, and how to get the ones that lack.

A signal is one number over a stretch of time, the same whether a benchmark, two scrapes or a
history told it. Not here: gathering (evidence.py), thresholds (symptoms.toml).
"""

from collections.abc import Mapping

import msgspec

from sixfold.core.slo import Slo


class Signal(msgspec.Struct, frozen=True):
    """What a number means, and which flag or command brings it where it lacks."""

    unit: str
    what: str
    enable: Mapping[str, str] = {}
    """Engine, or "any", to what makes it known."""


BENCH = "sixfold bench --url URL --slo ... measures it from outside"
TRACE = "sixfold record --keep-text writes a trace that tells"
SET = "say it: --set {name}=VALUE"
PAGE = {
    "vllm": "its /metrics page tells; was it started with --disable-log-stats?",
    "sglang": "start with --enable-metrics",
    "llamacpp": "start with --metrics",
    "sixfold": "its /metrics page tells, once a few requests have ended",
}
_NOT_TOLD = {"llamacpp": f"llama.cpp does not tell: {BENCH}", "any": BENCH}

SIGNALS: Mapping[str, Signal] = {
    "ttft_excess": Signal("x", "time to first token over its objective", PAGE | _NOT_TOLD),
    "itl_excess": Signal("x", "time between tokens over its objective", PAGE | _NOT_TOLD),
    "e2e_excess": Signal("x", "time to the last token over its objective", PAGE | _NOT_TOLD),
    "error_share": Signal("", "share of requests that failed or were turned away", {"any": BENCH}),
    "ttft_mean": Signal("s", "mean time to first token", PAGE | _NOT_TOLD),
    "itl_p50": Signal("s", "median time between tokens", PAGE | _NOT_TOLD),
    "itl_tail": Signal("x", "time between tokens, p99 over p50", PAGE | _NOT_TOLD),
    "queue_share": Signal("", "mean time in the queue over mean time to first token",
                          PAGE | {"llamacpp": "llama.cpp has no such metric"}),
    "prefill_time": Signal("", "a request's time in prefill, of its time out of the queue", PAGE),
    "prefill_share": Signal("", "prompt tokens computed, of all tokens computed", PAGE),
    "running_mean": Signal("requests", "requests in the running batch, mean", PAGE),
    "running_max": Signal("requests", "requests in the running batch, peak", PAGE),
    "waiting_mean": Signal("requests", "requests in the engine's queue, mean", PAGE),
    "waiting_rise": Signal("requests", "growth of the queue from the first quarter to the last",
                           PAGE),
    "slots": Signal("requests", "requests that may run at once", {"any": SET}),
    "token_budget": Signal("tokens", "token budget of one step", {"any": SET}),
    "static_batching": Signal("", "1 where a batch runs to its end before the next", {"any": SET}),
    "caching_on": Signal("", "1 where the prefix cache is on", {"any": SET}),
    "kv_mean": Signal("", "used part of the KV cache, mean",
                      PAGE | {"llamacpp": "newer versions do not tell"}),
    "kv_max": Signal("", "used part of the KV cache, peak",
                     PAGE | {"llamacpp": "newer versions do not tell"}),
    "kv_pressure": Signal("", "used part of the KV cache that requests may have to wait for, peak",
                          PAGE),
    "preempted_share": Signal("", "preemptions per finished request",
                              PAGE | {"llamacpp": "it never preempts"}),
    "hit_share": Signal("", "prompt tokens that came from the prefix cache, of all", PAGE),
    "shareable": Signal("", "prompt tokens that an ideal prefix cache would hold, of all",
                        {"any": f"a benchmark's fingerprint, or a trace: {TRACE}"}),
    "layout_loss": Signal("", "prompt tokens that another order of the prompt would share, of all",
                          {"any": TRACE}),
    "context_slope": Signal("x", "time per token at long contexts over that at short ones",
                            {"any": BENCH}),
    "client_bound": Signal("", "1 where the load generator was the limit", {"any": BENCH}),
    "acceptance": Signal("", "drafted tokens that were accepted, of all", PAGE),
    "replica_skew": Signal("x", "busiest replica's requests over the idlest's",
                           {"any": "name every replica: sixfold advise URL URL ..."}),
    "replica_idle_gap": Signal("requests", "waiting on one replica while another has free slots",
                               {"any": "name every replica: sixfold advise URL URL ..."}),
}  # fmt: skip
"""All that the table may speak of."""


class Reading(msgspec.Struct, frozen=True):
    """A signal's value, and how it is known."""

    value: float
    how: str
    """measured, derived (computed from measured numbers), or set (a flag of the server)."""
    source: str
    """The metrics or the record that it comes from."""


Readings = dict[str, Reading]


def values_of(readings: Mapping[str, Reading]) -> dict[str, float]:
    """The numbers alone."""
    return {name: reading.value for name, reading in readings.items()}


def enabling(name: str, engine: str) -> str:
    """What makes a missing signal known at this engine."""
    enable = SIGNALS[name].enable
    text = enable.get(engine) or enable.get("any") or BENCH
    return text.format(name=name)


EXCESSES = {"ttft": "ttft_excess", "itl": "itl_excess", "tpot": "itl_excess", "e2e": "e2e_excess"}


def excesses(slo: Slo, values: Mapping[str, float], source: str) -> Readings:
    """How far latencies are over their limits: of several clauses on one, the worst.

    A clause that was not measured leaves its signal out, so that "met" is never guessed.
    """
    found: dict[str, list[float | None]] = {}
    for clause in slo.clauses:
        name = EXCESSES.get(clause.metric)
        if name is None or clause.bound <= 0:
            continue
        value = values.get(clause.key)
        found.setdefault(name, []).append(None if value is None else value / clause.bound)
    worst = {name: _worst(shares) for name, shares in found.items()}
    return {
        name: Reading(value, "measured", source)
        for name, value in worst.items()
        if value is not None
    }


def _worst(shares: list[float | None]) -> float | None:
    """The largest; where one is not known, only one over its limit tells."""
    known = [share for share in shares if share is not None]
    if not known or (len(known) < len(shares) and max(known) <= 1):
        return None
    return max(known)
