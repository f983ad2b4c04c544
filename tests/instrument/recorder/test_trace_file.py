"""Traces as files: nothing lost, nothing overwritten, cut anywhere."""

import gzip
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder.entry import Entry
from sixfold.instrument.recorder.trace_file import (
    TraceWriter,
    is_trace,
    keeps_text,
    new_header,
    read_entries,
    read_header,
)
from sixfold.instrument.workloads.lines import read_lines

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 31, 13, tzinfo=UTC)


def entry(at: float) -> Entry:
    return Entry(at=at, endpoint="/v1/completions", input_tokens=3, hash_ids=(1, (1 << 48) - 1))


def write(path, entries, start=NOON, append=False, **header):
    writer = TraceWriter(path, new_header(start, **header), append)
    for one in entries:
        writer.write(one)
    writer.close()
    return writer


def read(path) -> list[Entry]:
    return list(read_entries(read_lines(str(path))))


def test_what_is_written_is_there_at_once(tmp_path):
    path = tmp_path / "t.jsonl"
    writer = TraceWriter(path, new_header(NOON))
    assert is_trace(str(path)) and read(path) == []
    writer.write(entry(1.5))
    assert read(path) == [entry(1.5)] and writer.count == 1
    writer.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_header(str(path)) == writer.header


def test_a_file_is_never_overwritten(tmp_path):
    path = tmp_path / "t.jsonl"
    write(path, [entry(1)])
    with pytest.raises(ConfigError, match="already"):
        TraceWriter(path, new_header(NOON))
    assert read(path) == [entry(1)]
    with pytest.raises(ConfigError, match="can't write"):
        TraceWriter(tmp_path / "none" / "t.jsonl", new_header(NOON))


def test_appending_keeps_the_salt_and_counts_from_the_first_start(tmp_path):
    path = tmp_path / "t.jsonl"
    first = write(path, [entry(1)])
    second = write(path, [entry(2)], LATER, append=True, keep_text=True)
    assert second.salt == first.salt != new_header(NOON).salt
    assert [e.at for e in read(path)] == [1, 3602]
    assert not read_header(str(path)).keep_text and keeps_text(str(path))
    write(tmp_path / "new.jsonl", [entry(1)], append=True)
    assert read(tmp_path / "new.jsonl") == [entry(1)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_trace_that_was_cut_anywhere_is_read_and_gone_on_with(data, tmp_path):
    path = tmp_path / "t.jsonl"
    path.unlink(missing_ok=True)
    write(path, [entry(i) for i in range(5)])
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    cut = data.draw(st.integers(head, len(whole)))
    path.write_bytes(whole[:cut])
    kept = read(path)
    # A line that lacks nothing but its end counts.
    assert len(kept) in (whole[:cut].count(b"\n") - 1, whole[:cut].count(b"\n"))
    assert kept == [entry(i) for i in range(len(kept))]
    write(path, [entry(9)], append=True)
    ends = whole[:cut].count(b"\n") - 1
    assert read(path) == [*(entry(i) for i in range(ends)), entry(9)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"at": 1, "endpoint": "/"}\n', ":1:"),
        ('HEADER\n{"at": 1}\n{"at": 1, "endpoint": "/"}\n', ":2:"),
        ("HEADER\n{\nHEADER\n", ":2:"),
        ('HEADER\n{"at": 1, "endpoint": "/", "input_tokens": -1}\n', ":2:"),
        ('{"sixfold_trace": 1}\n', ":1:"),
        ('{"sixfold_trace":2,"start":"2026-01-31T12:00:00Z"}\n', ":1:"),
        ('{"sixfold_trace":1,"start":"noon"}\n', ":1:"),
        ('{"sixfold_trace":1,"start":"2026-01-31T12:00:00Z","salt":"xy"}\n', ":1:"),
        ('{"sixfold_trace":1,"start":"2026-01-31T12:00:00Z","block":0}\n', ":1:"),
    ],
)
def test_wrong_lines_are_named(text, place, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(text.replace("HEADER", '{"sixfold_trace":1,"start":"2026-01-31T12:00:00Z"}'))
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert place in caught.value.message


def test_what_is_no_trace_is_not_appended_to(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "mine"}\n')
    with pytest.raises(ConfigError, match="not a header"):
        TraceWriter(path, new_header(NOON), append=True)
    assert path.read_text() == '{"prompt": "mine"}\n'
    packed = tmp_path / "t.jsonl.gz"
    write(tmp_path / "plain", [entry(1)])
    packed.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    assert read(packed) == [entry(1)]
    with pytest.raises(ConfigError, match="packed"):
        TraceWriter(packed, new_header(NOON), append=True)
