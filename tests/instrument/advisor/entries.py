"""Entries of a scoreboard, friendly and hostile ones, for tests of what shows them."""

from sixfold.instrument.advisor.scoreboard import Entry
from sixfold.instrument.advisor.validate import Verdict

HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\"> | [x](http://127.0.0.1/gone) `*b*`\n"
    "# h {{data}} \u2028 \u202e ![i](y)"
)


def verdict(call: str, ratio: float | None, metric: str = "goodput", **changes) -> Verdict:
    fields = {
        "call": call,
        "metric": metric,
        "ratio": ratio,
        "low": None if ratio is None else ratio / 1.1,
        "high": None if ratio is None else ratio * 1.1,
        "pairs": 3,
        "before": (2.0, 2.0, 2.0),
        "after": (),
    }
    return Verdict(**(fields | changes))


def entry(number: int, told: Verdict, **changes) -> Entry:
    fields = {
        "date": f"2026-01-{number + 1:02}T10:00:00Z",
        "engine": "sixfold",
        "engine_version": "1.0",
        "model": "model-7b",
        "workload": "chat:count=12",
        "slo": "ttft:p95<1s",
        "symptom": "kv-preempting",
        "remedy": "more-slots",
        "strategy": "continuous batching",
        "flags_before": {"max_num_seqs": 2},
        "flags_after": {"max_num_seqs": 8},
        "verdict": told,
        "hardware": "CPU x4",
        "commit": "0123456789abcdef",
    }
    return Entry(**(fields | changes))


def samples() -> list[Entry]:
    """Every call; a metric of which less is better; no strategy; no ratio; the same twice."""
    first = entry(0, verdict("GAIN", 3.0))
    return [
        first,
        entry(1, verdict("WORSE", 0.5, pairs=4), dirty=True),
        entry(2, verdict("GAIN", 0.75, "ttft:p95"), strategy="prefix caching", flags_before={},
              flags_after={"enable_prefix_caching": True}, engine="vllm"),
        entry(3, verdict("NO GAIN", 1.001, pairs=6), strategy="", remedy="more-clients"),
        entry(4, verdict("INCONCLUSIVE", 1.05, pairs=6), strategy="prefix caching"),
        entry(5, verdict("WORSE", None, why="runs with the remedy failed: no memory")),
        first,
    ]  # fmt: skip


def hostile() -> Entry:
    """Every text of it is."""
    texts = dict.fromkeys(
        ("date", "engine", "engine_version", "model", "workload", "slo", "symptom", "remedy",
         "strategy", "hardware", "commit"), HOSTILE,
    )  # fmt: skip
    told = verdict("WORSE", 0.7, HOSTILE, why=HOSTILE)
    flags = {HOSTILE: HOSTILE}
    return entry(0, told, flags_before=flags, flags_after=flags, **texts)
