"""Where a request's time went: the parts are the whole, whatever happened to the request."""

import itertools
import json
import time
from pathlib import Path

import pytest

from sixfold.core.config import EngineConfig
from sixfold.core.errors import ConfigError
from sixfold.core.request import EngineRequest, SamplingParams, Timings
from sixfold.engine.attribution import PARTS, Attribution, StepTime
from sixfold.engine.engine import LLMEngine
from sixfold.engine.scheduler.output import ScheduledChunk, SchedulerOutput

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"


def make_engine(cache: Path, **options) -> LLMEngine:
    settings = {"dtype": "bf16", "kv_cache_memory_mb": 32, "max_model_len": 512, **options}
    return LLMEngine(EngineConfig(model=str(TINY), cache_dir=str(cache), **settings))


def request(name: str, prompt: int, output: int) -> EngineRequest:
    params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
    return EngineRequest(
        request_id=name, prompt_token_ids=list(range(3, 3 + prompt)), params=params,
        arrival_time=time.monotonic() - 0.001,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


def run(engine: LLMEngine, requests, disturb=None) -> dict[str, tuple[float, float, Timings]]:
    """(time to first token, whole time, timings) of each, at the moments that the engine books."""
    account = engine._clock._attribution
    first: dict[str, float] = {}
    whole: dict[str, float] = {}
    booked, ended = account.step, account.end

    def step(output, sampled, time):
        names = list(sampled)
        booked(output, names, time)
        for name in names:
            first.setdefault(name, time.ended - arrived[name])

    def end(name, now, timings):
        ended(name, now, timings)
        whole[name] = now - arrived[name]

    account.step, account.end = step, end
    arrived = {one.request_id: one.arrival_time for one in requests}
    for one in requests:
        engine.add_request(one)
    found, count = {}, 0
    while engine.has_unfinished():
        for delta in engine.step():
            if delta.finish_reason:
                name = delta.request_id
                found[name] = (first[name], whole[name], delta.timings)
        count += 1
        if disturb is not None:
            disturb(engine, count)
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"max_num_seqs": 2}, {"max_num_batched_tokens": 16}, {"speculative": "self"},
     {"batching": "static", "max_num_seqs": 3}, {"batching": "dynamic"},
     {"interactive_slowdown": 100.0}, {"interactive_slowdown": 0.1, "max_num_seqs": 4}],
    ids=str,
)  # fmt: skip
def test_parts_add_up(cache, options):
    engine = make_engine(cache, **options)
    yields = "interactive_slowdown" in options

    def preempt(engine: LLMEngine, count: int) -> None:
        time.sleep(0.002)  # a caller that takes its time
        if count in (5, 9) and "r1" in engine._live:
            engine._scheduler.preempt("r1")

    requests = [request(f"r{i}", 20 + 60 * (i % 3), 30) for i in range(8)]
    for one in requests[::2] if yields else ():
        one.backfill = True
    found = run(engine, requests, preempt)
    assert len(found) == 8
    for first, whole, timings in found.values():
        assert set(timings.parts) <= set(PARTS)
        assert all(seconds >= 0 for seconds in timings.parts.values())
        assert sum(timings.parts.values()) == pytest.approx(whole, abs=1e-3, rel=0.01)
        assert sum(timings.first_token.values()) == pytest.approx(first, abs=1e-3, rel=0.01)
        assert timings.parts["http"] >= 0.001
    preempted = found["r1"][2]
    assert preempted.preemptions > 0
    assert preempted.parts["preempted"] + preempted.parts["recompute"] > 0


def chunk(name: str, start: int, count: int) -> ScheduledChunk:
    return ScheduledChunk(name, 0, start, [1] * count, True, ())


def step(before: float, began: float, ended: float, forward: float, **fields) -> StepTime:
    rest = dict.fromkeys(("sampling", "drafting", "wasted", "loading", "detokenise"), 0.0) | fields
    return StepTime(before, began, ended, forward, **rest)


def test_each_second_goes_where_it_belongs():
    book = Attribution()
    book.add("a", 0.0, 1.0)
    first = SchedulerOutput(chunks=[chunk("a", 0, 10)])
    book.step(first, ["a"], step(0.0, 3.0, 5.0, 1.5, sampling=0.25))
    book.add("b", 5.0, 5.0)
    # a decodes a row beside 3 rows of b's prompt, of which more is to come.
    second = SchedulerOutput(chunks=[chunk("a", 10, 1), chunk("b", 0, 3)])
    book.step(second, ["a"], step(5.0, 6.0, 10.0, 4.0))
    third = SchedulerOutput(chunks=[chunk("a", 11, 1)])
    book.step(third, ["a"], step(10.0, 10.0, 12.0, 2.0, wasted=0.5))
    timings = Timings()
    book.end("a", 12.0, timings)
    assert timings.first_token == {
        "http": 1.0, "queue": 2.0, "prefill": 1.5, "sampling": 0.25, "engine": 0.25
    }  # fmt: skip
    assert timings.parts == {
        "http": 1.0, "queue": 2.0, "prefill": 1.5, "sampling": 0.25, "interference": 3.0,
        "decode": 1.0 + 1.5, "speculation": 0.5, "engine": 0.25 + 1.0,
    }  # fmt: skip
    other = Timings()
    book.step(SchedulerOutput(preempted=["b"]), [], step(12.0, 14.0, 14.0, 0.0))
    book.end("b", 20.0, other)
    assert other.parts == {
        "queue": 1.0, "prefill": 4.0, "wait": 2.0, "engine": 2.0, "preempted": 6.0
    }  # fmt: skip


def test_what_backfill_takes_is_told_apart():
    book = Attribution()
    book.add("a", 0.0, 0.0)
    book.add("b", 0.0, 0.0, True)
    ours = chunk("a", 0, 4)
    theirs = ScheduledChunk("b", 1, 0, [1] * 12, True, (), backfill=True)
    book.step(SchedulerOutput(chunks=[ours, theirs]), ["a", "b"],
              step(0.0, 0.0, 4.0, 4.0, backfill=3.0))  # fmt: skip
    # Came a second before the step was over: of that second three quarters are backfill's.
    book.add("c", 3.0, 4.0)
    # b decodes, but is not in the next step; c waits for it to end.
    book.step(SchedulerOutput(chunks=[chunk("a", 4, 1)]), ["a"], step(4.0, 4.0, 6.0, 2.0))
    decodes = ScheduledChunk("b", 1, 12, [1], True, (), backfill=True)
    book.step(SchedulerOutput(chunks=[chunk("a", 5, 1), decodes]), ["a", "b"],
              step(6.0, 6.0, 8.0, 2.0, backfill=0.5))  # fmt: skip
    parts = {}
    for name in "abc":
        timings = Timings()
        book.end(name, 8.0, timings)
        parts[name] = timings.parts
    assert parts["a"] == {"prefill": 1.0, "backfill": 3.5, "decode": 3.5}
    assert parts["b"] == {"prefill": 3.0, "interference": 1.0, "wait": 2.0, "decode": 2.0}
    assert parts["c"] == {"http": 0.25, "queue": 3.5, "backfill": 0.75 + 0.5}


def test_a_trace_is_json_with_every_step_and_request(cache, tmp_path):
    path = tmp_path / "trace.json"
    engine = make_engine(cache, trace_file=str(path))
    run(engine, [request("a", 40, 5), request("b", 5, 9)])
    # As the engine left it: an array that is not closed.
    events = json.loads(path.read_text().rstrip().rstrip(",") + "]")
    steps = [e for e in events if e["name"] == "step"]
    assert len(steps) == engine.stats().num_steps
    assert all(a["ts"] + a["dur"] <= b["ts"] + 1 for a, b in itertools.pairwise(steps))
    requests = {e["name"]: e for e in events if e.get("pid") == 2 and e["ph"] == "X"}
    assert set(requests) == {"a", "b"}
    assert requests["a"]["dur"] > 0
    with pytest.raises(ConfigError, match="cannot write the trace"):
        make_engine(cache, trace_file=str(tmp_path / "none" / "trace.json"))
