"""Access logs as entries: formats, times, what is missing, and lines that say nothing."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder.access_log import NAMES, open_log, parse_fields

COMBINED = """\
10.0.0.1 - - [31/Jan/2026:12:00:05 +0000] "POST /v1/chat/completions?key=k HTTP/1.1" 200 5120 "-" \
"python \\"x\\" 3.1" 2.500
10.0.0.2 - bob [31/Jan/2026:13:00:04 +0100] "POST /v1/completions HTTP/1.1" 503 - "-" "curl" \
rt=0.250 0.100
10.0.0.1 - - [31/Jan/2026:12:00:06 +0000] "GET /health HTTP/1.1" 200 2 "-" "probe" 0.001
\x16\x03\x01 - - [31/Jan/2026:12:00:06 +0000] "\\x16\\x03" 400 150 "-" "-" 0.0
garbage
"""
COMMON = '1.2.3.4 - - [31/Jan/2026:12:00:05 +0000] "POST /v1/completions HTTP/1.1" 200 77\n'


@pytest.fixture
def file(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "log"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def test_combined_with_request_time(file):
    log = open_log(file(COMBINED))
    assert log.start == datetime(2026, 1, 31, 12, 0, 2, 500_000, UTC)
    assert (log.requests, log.skipped) == (2, 3)
    first, second = log.entries()
    assert (first.at, second.at) == pytest.approx((0.0, 1.25))
    assert (first.endpoint, first.outcome.status, first.outcome.e2e, first.response_bytes) == (
        "/v1/chat/completions", 200, 2.5, 5120,
    )  # fmt: skip
    assert (second.outcome.status, second.outcome.e2e, second.response_bytes) == (503, 0.25, None)
    assert "durations" not in log.missing and "input tokens" in log.missing
    assert "prefix hashes" in log.missing and "sampling" in log.missing


def test_common_has_whole_seconds_and_no_durations(file):
    log = open_log(file(COMMON))
    assert {"durations", "fractions of a second"} <= set(log.missing)
    (entry,) = log.entries()
    assert entry.outcome.e2e is None and entry.response_bytes == 77 and not entry.is_load


def test_json_with_known_names(file):
    rows = [
        {"time_iso8601": "2026-01-31T12:00:01.5Z", "request_uri": "/v1/completions",
         "request_method": "POST", "status": "200", "request_time": "0.5", "model": "m",
         "prompt_tokens": 100, "completion_tokens": 20, "request_length": "400"},
        {"msec": 1769860801.25, "uri": "/v1/completions", "status": 200, "request_length": 400},
        {"ts": 1769860802250, "request": "GET /v1/models HTTP/1.1", "status": 200},
        {"status": 200, "uri": "/v1/completions"},
    ]  # fmt: skip
    log = open_log(file("\n".join(map(json.dumps, rows))))
    one, two = log.entries()
    assert (log.requests, log.skipped) == (2, 2)
    assert (one.at, two.at) == pytest.approx((0.0, 0.25))
    assert (one.input_tokens, one.input_estimated, one.output_tokens, one.model) == (
        100, False, 20, "m",
    )  # fmt: skip
    assert (two.input_tokens, two.input_estimated, two.output_tokens) == (100, True, None)
    assert one.is_load and not two.is_load
    assert "model" not in log.missing and "ttft" in log.missing


def test_json_with_names_of_ones_own(file):
    row = {"began": "2026-01-31T12:00:00Z", "http": {"path": "/v1/completions"}, "took": 1500}
    path = file(json.dumps(row))
    with pytest.raises(ConfigError, match="no POST request") as caught:
        open_log(path)
    assert "--fields" in caught.value.hint
    log = open_log(path, "start=began, endpoint=http.path,milliseconds=took")
    (entry,) = log.entries()
    assert (entry.at, entry.endpoint, entry.outcome.e2e) == (0.0, "/v1/completions", 1.5)


@pytest.mark.parametrize("text", ["start", "begin=ts", "start=", "=ts"])
def test_fields_that_are_none_are_named(text):
    with pytest.raises(ConfigError, match="--fields") as caught:
        parse_fields(text)
    assert all(name in caught.value.hint for name in NAMES)


PIECES = st.sampled_from(
    [COMMON.encode(), COMBINED.encode(), b'{"ts": 1e300, "uri": "/"}\n', b'{"ts": "x", "uri": 3}\n',
     b'{"ts": -1, "uri": "/", "status": []}\n', b'{"ts": 1, "uri": "/", "bytes": 1e308}\n', b'"',
     b"[", b"\\", b"{", b"\n", b'{"ts": true, "uri": "/"}\n',
     b'{"time": "9999-12-31T23:59:59-23:00", "uri": "/", "request_time": "nan"}\n']
)  # fmt: skip


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(PIECES | st.binary(max_size=20), max_size=8))
def test_any_bytes_are_a_log_or_the_users_error(file, pieces):
    try:
        log = open_log(file(b"".join(pieces)))
    except ConfigError as error:
        assert error.message
    else:
        assert sum(1 for entry in log.entries() if entry.at >= 0) == log.requests
