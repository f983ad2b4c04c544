"""What a trace shows in numbers, and that a name in it steers no terminal."""

from datetime import UTC, datetime

import msgspec
import pytest

from sixfold.instrument.recorder.entry import Entry, Message, Outcome, block_numbers, rendered
from sixfold.instrument.recorder.report import NO_TEXT, summed_up
from sixfold.instrument.recorder.trace_file import new_header

HEADER = new_header(datetime(2026, 1, 31, tzinfo=UTC))
SHARED = "".join(f"Rule {n}: do as the rule before says, but not twice. " for n in range(60))


def made(number: int, text: str, keep: bool = False, **more) -> Entry:
    messages = (Message("", text),)
    fields = {
        "at": 2.0 * number, "endpoint": "/v1/completions", "model": "m",
        "input_tokens": len(text) // 4, "output_tokens": 10, "chars": len(text),
        "hash_ids": block_numbers(rendered(messages), "m", bytes(16)),
        "outcome": Outcome(status=200, ttft=0.1 * (number + 1), e2e=1.0),
        "prompt": messages if keep else (),
    }  # fmt: skip
    return Entry(**fields | more)


def test_rates_lengths_and_reuse():
    entries = [made(n, SHARED + f"Question {n}") for n in range(11)]
    entries.append(made(5, "", outcome=Outcome(status=503, error="e"), output_tokens=None))
    report = summed_up("t.jsonl", HEADER, entries)
    assert (report.requests, report.load) == (12, 11)
    assert (report.span, report.rate) == (20.0, 0.5) and report.burstiness == pytest.approx(0)
    assert report.input.p50 == len(SHARED + "Question 1") // 4
    assert report.prefix_reuse == pytest.approx(10 / 11, abs=0.01)
    assert report.statuses == {"200": 11, "503": 1} and report.errors == {"e": 1}
    assert report.times["ttft:p50"] == pytest.approx(0.6)
    assert report.layout is None and report.layout_note == NO_TEXT
    text = report.lines()
    assert "12 requests" in text and "11 requests were answered" in text and NO_TEXT in text
    assert msgspec.json.encode(report)


def test_kept_text_is_checked_in_the_order_of_arrival():
    texts = [f"Now: 2026-01-31T12:00:{n:02d}Z\n{SHARED}" for n in range(12)]
    entries = [made(n, text, keep=True) for n, text in enumerate(texts)]
    report = summed_up("t.jsonl", HEADER, entries[::-1])
    (found,) = report.layout.findings
    assert found.kind == "timestamp" and found.requests == 11
    assert found.loss_per_request == pytest.approx(len(SHARED) / 4, rel=0.05)
    assert "timestamp" in report.lines() and report.layout_note == ""


def test_a_trace_without_load_or_with_none_at_all():
    report = summed_up("t.jsonl", HEADER, [])
    assert report.requests == 0 and report.prefix_reuse is None and report.lines()
    header = msgspec.structs.replace(HEADER, missing=("durations",))
    entry = Entry(at=0.0, endpoint="/\x1b[31m", outcome=Outcome(status=200))
    text = summed_up("t.jsonl", header, [entry]).lines()
    assert "durations" in text and "\x1b" not in text
