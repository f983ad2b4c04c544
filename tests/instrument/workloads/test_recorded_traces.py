"""Recorded traces as workloads: lengths, sharing and times, or the prompts themselves."""

import json
from datetime import UTC, datetime

import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.conversation import Conversation, check_session
from sixfold.instrument.measure import _warm_seed
from sixfold.instrument.recorder.entry import Entry, Message, Outcome, block_numbers, rendered
from sixfold.instrument.recorder.trace_file import TraceWriter, new_header
from sixfold.instrument.workloads.holdout import HELD_OUT, LEAST
from sixfold.instrument.workloads.presets import parse_workload
from sixfold.instrument.workloads.traces import TraceConfig, trace

SHARED = "".join(f"Rule {n}: do as the rule before says, but not twice. " for n in range(60))
OK = Outcome(status=200)


def made(at: float, *messages: Message, keep: bool = False, **more) -> Entry:
    text = rendered(messages)
    fields = {
        "at": at, "endpoint": "/v1/chat/completions", "model": "m", "outcome": OK,
        "input_tokens": len(text) // 3, "output_tokens": 5, "chars": len(text),
        "hash_ids": block_numbers(text, "m", bytes(16)), "prompt": messages if keep else (),
    }  # fmt: skip
    return Entry(**fields | more)


def user(number: int) -> Message:
    return Message("user", f"{SHARED} Question {number}?")


@pytest.fixture
def file(tmp_path):
    def write(entries, keep_text: bool = False) -> str:
        path = tmp_path / "t.jsonl"
        header = new_header(datetime(2026, 1, 31, tzinfo=UTC), keep_text=keep_text)
        writer = TraceWriter(path, header)
        for entry in entries:
            writer.write(entry)
        writer.close()
        return str(path)

    return write


def ids(sessions) -> list[tuple[int, ...]]:
    return [s.turns[0].token_ids for s in sessions]


def test_lengths_times_and_sharing_are_those_of_the_trace(file):
    path = file([made(3.0 + n, user(n)) for n in (0, 1, 2)] + [made(9.0, Message("", "x" * 900))])
    sessions = trace(TraceConfig(file=path), 0)
    assert sessions == trace(TraceConfig(file=path, format="sixfold"), 0)
    assert [s.at for s in sessions] == [0, 1, 2, 6]
    assert list(map(len, ids(sessions))) == [len(rendered([user(n)])) // 3 for n in range(3)] + [
        300
    ]
    block = round(128 / 3)
    same = len(SHARED) // 128 * block
    first, second, third, other = ids(sessions)
    assert first[:same] == second[:same] == third[:same] and other[0] != first[0]
    assert first[: same + 2 * block] != second[: same + 2 * block]
    assert ids(trace(TraceConfig(file=path), 1)) != ids(sessions), "other seeds, other prompts"
    assert {t.max_tokens for s in sessions for t in s.turns} == {5}


def test_what_failed_or_has_no_lengths_is_left_out(file):
    path = file(
        [
            made(0, user(0)),
            made(1, user(1), outcome=Outcome(status=429)),
            made(2, user(2), output_tokens=None),
            made(3, user(3), outcome=Outcome(status=200, client_gone=True)),
        ]
    )
    assert [s.at for s in trace(TraceConfig(file=path), 0)] == [0, 3]


def test_a_trace_of_times_alone_is_no_workload(file):
    path = file([Entry(at=0.0, endpoint="/v1/completions", outcome=OK)])
    with pytest.raises(ConfigError, match="no request") as caught:
        trace(TraceConfig(file=path), 0)
    assert "lengths" in caught.value.hint


def test_kept_prompts_are_sent_as_they_are(file):
    system, question = Message("system", "Be brief."), Message("user", "Why?")
    talk = (system, question, Message("assistant", "So."), Message("user", "And?"))
    path = file(
        [
            made(0, system, question, keep=True),
            made(1, Message("", "once upon"), keep=True),
            made(2, *talk, keep=True),
            made(3, system, keep=True),
            made(4, user(1)),
        ],
        keep_text=True,
    )
    asked, plain, longer, only, unknown = trace(TraceConfig(file=path), 0)
    assert (asked.system, asked.turns[0].text, asked.turns[0].max_tokens) == (
        "Be brief.", "Why?", 5,
    )  # fmt: skip
    assert (plain.system, plain.turns[0].text) == ("", "once upon")
    assert longer.system == "Be brief." and longer.turns[0].text == rendered(talk[1:])
    assert only.turns[0].text == "Be brief." and unknown.turns[0].token_ids
    for session in (asked, plain, longer, only):
        check_session(session, 0, chat=True)
    sent = Conversation(asked, chat=True).ask(asked.turns[0])
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"},
    ]  # fmt: skip
    made_up = trace(TraceConfig(file=path, kept=False), 0)
    assert all(s.turns[0].token_ids for s in made_up)


def test_kept_prompts_are_parted_in_time_and_made_up_ones_by_seed(file):
    count = 2 * LEAST
    path = file([made(2.0 * n, user(n), keep=True) for n in range(count)], keep_text=True)
    config = TraceConfig(file=path)
    tuned, confirmed = trace(config, 0), trace(config, HELD_OUT)
    texts = [{s.turns[0].text for s in sessions} for sessions in (tuned, confirmed)]
    assert len(tuned) == len(confirmed) == count // 2 and not texts[0] & texts[1]
    assert (
        [s.at for s in tuned] == [s.at for s in confirmed] == [2.0 * n for n in range(count // 2)]
    )
    warm = {s.turns[0].text for s in trace(config, _warm_seed(0, 1))}
    assert warm == texts[1]
    assert len(trace(TraceConfig(file=path, holdout=False), 0)) == count
    assert parse_workload(f"trace:file={path}").not_held_out(0) == ""
    shared = parse_workload(f"trace:file={path},holdout=false").not_held_out(0)
    assert f"{count} of {count}" in shared
    assert parse_workload(f"trace:file={path},kept=false").not_held_out(0) == ""


def test_prompts_that_come_in_both_halves_are_said(file):
    path = file([made(n, user(n % 4), keep=True) for n in range(20)], keep_text=True)
    assert "4 of 4" in parse_workload(f"trace:file={path}").not_held_out(0)


def test_a_damaged_trace_names_its_line(file, tmp_path):
    path = file([made(0, user(0))])
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps({"at": "soon", "endpoint": "/"}) + "\n")
        out.write(json.dumps({"at": 1, "endpoint": "/"}) + "\n")
    with pytest.raises(ConfigError, match=r":3: "):
        trace(TraceConfig(file=path), 0)
