"""Runs against a mock server: order, limits, and numbers that agree with what it recorded."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from instrument.loadgen.mock_server import (
    CLOSE,
    HEAD,
    LAST,
    MockServer,
    Seen,
    Step,
    answer,
    chunk,
    finish,
    token,
)  # fmt: skip
from sixfold.core.errors import ConfigError
from sixfold.core.metrics import RequestTrace, spread
from sixfold.instrument.loadgen.arrivals import constant, poisson, replay
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.loadgen.report import LATENCIES, STATISTICS, report
from sixfold.instrument.loadgen.run import Limits, Progress, run_load


def single(text: str = "p", **fields: Any) -> Session:
    return Session(turns=(Turn(text=text, max_tokens=4),), **fields)


def turns(*texts: str, **fields: Any) -> Session:
    return Session(turns=tuple(Turn(text=t, max_tokens=4) for t in texts), **fields)


def close_to(measured: float, true: float) -> bool:
    """Within 2 %, or what a busy machine may add."""
    return abs(measured - true) <= max(0.02 * true, 0.008)


CHUNKS = (2, 1, 1, 2, 1, 1)
"""Tokens of each: most gaps between tokens are gaps between chunks, so that no median is 0."""


def timed(body: dict[str, Any], number: int) -> list[Step]:
    """Chunks of one or two tokens after pauses that differ by request and token."""
    rng = random.Random(number)
    steps: list[Step] = [HEAD]
    for size in CHUNKS:
        steps += [rng.uniform(0.04, 0.12), chunk(token("ab"[:size]))]
    return [*steps, chunk(finish(sum(CHUNKS))), LAST]


def truth(seen: Seen) -> RequestTrace:
    """The trace that the server's own stamps make."""
    written = zip(seen.writes[1:], CHUNKS, strict=False)
    times = [t for t, size in written for _ in range(size)]
    return RequestTrace(
        arrival=seen.arrived, token_times=tuple(times), end=seen.ended, num_prompt_tokens=7
    )


@pytest.mark.parametrize("load", [poisson(30.0, seed=3), 12])
def test_reported_percentiles_agree_with_the_server(load: Any) -> None:
    with MockServer(timed) as server:
        result = run_load(Target(url=server.url), [single()] * 40, load)
    assert [o.error for o in result.outcomes] == [""] * 40
    found = report(result.outcomes)
    true = [truth(seen) for seen in server.seen]
    assert spread(LATENCIES["itl"](true)).p50 >= 0.04, "else there is nothing to agree on"
    for name in ("ttft", "tpot", "itl", "e2e"):
        expected = spread(LATENCIES[name](true))
        for key, field in STATISTICS.items():
            # One delayed wake-up moves the extremes; the others must agree.
            slack = 0.05 if key in ("max", "p99.9", "p99", "min") else 0.0
            measured, wanted = found[f"{name}:{key}"], getattr(expected, field)
            assert close_to(measured, wanted) or abs(measured - wanted) < slack, (name, key)
    seconds = max(t.end for t in true) - min(t.arrival for t in true)
    assert found["output_throughput"] == pytest.approx(40 * sum(CHUNKS) / seconds, rel=0.05)
    assert found["request_throughput"] == pytest.approx(40 / seconds, rel=0.05)
    assert found["input_throughput"] == pytest.approx(40 * 7 / seconds, rel=0.05)


def test_open_loop_sends_whatever_happens_to_the_others() -> None:
    with MockServer(lambda body, number: [0.6, *answer("a")]) as server:
        result = run_load(Target(url=server.url), [single()] * 10, constant(50.0))
    arrived = [seen.arrived for seen in server.seen]
    assert max(arrived) < min(o.trace.end for o in result.outcomes)
    assert all(o.trace.arrival >= o.planned for o in result.outcomes)
    assert sorted(round(o.planned - result.start, 6) for o in result.outcomes) == [
        i / 50 for i in range(10)
    ]


def test_closed_loop_keeps_its_concurrency() -> None:
    with MockServer(lambda body, number: [0.05, *answer("a")]) as server:
        result = run_load(Target(url=server.url), [single()] * 12, 3)
    edges = [(s.arrived, 1) for s in server.seen] + [(s.writes[0], -1) for s in server.seen]
    running = [0]
    for _, step in sorted(edges):
        running.append(running[-1] + step)
    assert max(running) == 3 and len(result.outcomes) == 12
    assert (result.unfinished, result.unsent, result.stopped) == (0, 0, "")


def test_turns_follow_each_other_with_what_was_said_before() -> None:
    session = Session(
        system="S",
        turns=(
            Turn(text="one", max_tokens=4),
            Turn(text="two", max_tokens=4, think_time=0.1),
        ),
    )
    with MockServer(lambda body, number: answer("x", "y")) as server:
        result = run_load(Target(url=server.url, chat=True), [session], 1)
        run_load(Target(url=server.url), [session], 1)
        ids = Session(turns=tuple(Turn(token_ids=(1, 2, 3), max_tokens=2) for _ in range(2)))
        run_load(Target(url=server.url), [ids], 1)
    first, second, text_1, text_2, ids_1, ids_2 = (seen.body for seen in server.seen)
    assert first["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "one"},
    ]
    # The mock's text is in `text`, as of completions; the client reads either.
    assert second["messages"][2:] == [
        {"role": "assistant", "content": "xy"},
        {"role": "user", "content": "two"},
    ]
    assert (text_1["prompt"], text_2["prompt"]) == ("Sone", "Sonexytwo")
    assert ids_1["prompt"] == [1, 2, 3] and ids_2["prompt"] == [1, 2, 3, 1, 2, 1, 2, 3]
    before, after = result.outcomes
    assert (before.turn, after.turn) == (0, 1)
    assert after.planned == pytest.approx(before.trace.end + 0.1)
    assert after.trace.arrival >= after.planned


def test_a_failed_turn_ends_its_session_and_nothing_else() -> None:
    scripts = {"bad": [HEAD, chunk(token("a")), CLOSE]}
    with MockServer(lambda body, number: scripts.get(body["prompt"], answer("a"))) as server:
        result = run_load(Target(url=server.url), [turns("bad", "more"), turns("b", "c")], 1)
    assert [bool(o.error) for o in result.outcomes] == [True, False, False]
    assert result.unsent == 1
    found = report(result.outcomes, meets=lambda outcome: outcome.turn == 0)
    assert found["error_rate"] == pytest.approx(1 / 3)
    assert found["goodput"] == pytest.approx(found["request_throughput"] / 2)


def test_a_run_where_all_failed_has_no_latencies() -> None:
    with MockServer(lambda body, number: [CLOSE]) as server:
        found = report(run_load(Target(url=server.url), [single()] * 2, 2).outcomes)
    assert found["error_rate"] == 1.0 and not [key for key in found if ":" in key]
    assert report([])["requests"] == 0


def test_cached_rate_needs_a_server_that_tells() -> None:
    told = [HEAD + chunk(token("a")) + chunk(finish(1, 8, 6)) + LAST]
    scripts = [told, answer("a")]
    with MockServer(lambda body, number: scripts[number]) as server:
        result = run_load(Target(url=server.url), [single()] * 2, 1)
    assert report(result.outcomes)["cached_rate"] == 0.75
    assert "cached_rate" not in report(result.outcomes[1:])


def test_limits() -> None:
    with MockServer(lambda body, number: answer("a")) as server:
        target = Target(url=server.url)
        few = run_load(target, [single()] * 10, 2, limits=Limits(requests=4))
        brief = run_load(target, [single()] * 10, constant(1.0), limits=Limits(seconds=0.3))
    assert (len(few.outcomes), few.unsent, few.stopped) == (4, 6, "requests")
    assert (len(brief.outcomes), brief.unsent, brief.stopped) == (1, 9, "seconds")
    with MockServer(lambda body, number: [HEAD, 20.0]) as server:
        begin = time.monotonic()
        limits = Limits(seconds=0.2, drain=0.2)
        stuck = run_load(Target(url=server.url), [single()] * 3, 2, limits=limits)
    assert time.monotonic() - begin < 10 and not stuck.outcomes
    assert (stuck.unfinished, stuck.unsent) == (2, 1)
    with pytest.raises(ConfigError):
        Limits(requests=0)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises, also where the shell that began all this has it ignored (`nohup`, `&`)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_returns_what_there_is() -> None:
    scripts = [answer("a"), [HEAD, 20.0]]
    with MockServer(lambda body, number: scripts[number]) as server:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        limits = Limits(seconds=15, drain=5)
        result = run_load(Target(url=server.url), [single()] * 3, 1, limits=limits)
        timer.join()
    assert result.stopped == "interrupted"
    assert (len(result.outcomes), result.unfinished, result.unsent) == (1, 1, 1)


def test_progress_and_traces() -> None:
    told: list[Progress] = []
    sessions = [single("late", at=0.4), single("early", at=0.0)]
    with MockServer(lambda body, number: answer("a")) as server:
        run_load(Target(url=server.url), sessions, replay(speedup=2.0), progress=told.append)
    assert [seen.body["prompt"] for seen in server.seen] == ["early", "late"]
    assert server.seen[1].arrived - server.seen[0].arrived > 0.1
    assert (told[-1].finished, told[-1].sent, told[-1].planned, told[-1].failed) == (2, 2, 2, 0)


def test_only_this_machine_unless_told() -> None:
    with pytest.raises(ConfigError) as caught:
        run_load(Target(url="http://192.0.2.1"), [single()], 1)
    assert "allow_remote" in caught.value.hint
    assert Target(url="http://[::1]:80").loopback and Target(url="http://localhost").loopback


@pytest.mark.parametrize(
    ("sessions", "load"),
    [
        ([Session(turns=())], 1),
        ([Session(turns=(Turn(max_tokens=1),))], 1),
        ([Session(turns=(Turn(text="a", token_ids=(1,), max_tokens=1),))], 1),
        ([Session(turns=(Turn(token_ids=(1,), max_tokens=1),), system="s")], 1),
        ([single()], 0),
        ([single()], replay()),
        ([single()], replay(trace=())),
        ([single()] * 2, replay(trace=(0.0,))),
    ],
)
def test_runs_that_cannot_be(sessions: list[Session], load: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        run_load(Target(url="http://127.0.0.1:9"), sessions, load)
    assert caught.value.hint


class AtOnce:
    """A verdict that needs no minute."""

    def in_flight(self, at: float, count: int) -> None:
        pass

    def first_token(self, at: float, ttft: float) -> None:
        assert ttft >= 0

    def saturated(self, now: float) -> bool:
        return True


def test_a_saturated_open_loop_stops_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sixfold.instrument.loadgen.run.Saturation", AtOnce)
    asked = Limits(stop_saturated=True)
    with MockServer(lambda _body, _number: answer("a")) as server:
        target = Target(url=server.url)
        result = run_load(target, [single()] * 400, constant(20), limits=asked)
        assert result.stopped == "saturated" and result.unsent > 0
        assert result.unfinished == 0
        closed = run_load(target, [single()] * 8, 2, limits=asked)
        assert closed.stopped == "" and closed.unsent == 0
