"""Entries from access logs: nginx's common and combined formats, and JSON Lines with any names.

A log is read twice: for its start and for what it never says, then for its entries. An access log
names the moment when a request was over, so its duration is taken off where it is known. Requests
that are not POST are left out, as the proxy does. Not here: writing the trace (trace_file).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder.entry import BYTES_PER_TOKEN, Entry, Outcome
from sixfold.instrument.workloads.content import MAX_LENGTH
from sixfold.instrument.workloads.lines import Line, read_lines

NAMES: Mapping[str, tuple[str, ...]] = {
    "start": ("start", "start_time", "started_at"),
    "end": ("@timestamp", "time_iso8601", "timestamp", "time", "ts", "time_local", "msec"),
    "method": ("method", "request_method"),
    "endpoint": ("uri", "path", "request_uri", "url", "request"),
    "status": ("status", "status_code"),
    "seconds": ("request_time", "duration_s", "duration_seconds", "latency_seconds"),
    "milliseconds": ("duration_ms", "latency_ms", "response_time_ms"),
    "ttft": ("ttft", "time_to_first_token"),
    "model": ("model",),
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "request_bytes": ("request_length", "bytes_received"),
    "response_bytes": ("body_bytes_sent", "bytes_sent", "bytes"),
}
"""What is looked for in a JSON log, under which names; a dot goes into an object."""
_LINE = re.compile(
    r"\S+ \S+ \S+ \[(?P<end>[^\]]{1,64})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<response_bytes>\d+|-)(?P<rest>.*)'
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SECONDS = re.compile(r"(?<![^\s=])(?:rt=|request_time=)?(\d{1,9}\.\d{1,9})(?!\S)")
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
Values = Mapping[str, Any]


class AccessLog(msgspec.Struct, frozen=True, kw_only=True):
    """What a log holds, before it is taken over."""

    file: str
    fields: Mapping[str, tuple[str, ...]]
    start: datetime
    """When its first request began."""
    requests: int
    skipped: int
    """Lines that say no POST, or nothing that can be read."""
    missing: tuple[str, ...]
    """What no request of it has."""

    def entries(self) -> Iterator[Entry]:
        """The requests, in the log's order."""
        zero = self.start.timestamp()
        for row in _rows(self.file, self.fields):
            if row is not None:
                yield _entry(max(0.0, row[0] - zero), row[1])


def open_log(path: str, fields: str = "") -> AccessLog:
    """Look through a log. `fields`: `end=ts,endpoint=http.path`, for names that are not NAMES.

    Raises ConfigError: no such file, an unknown field, or no POST request in it.
    """
    names = {**NAMES, **parse_fields(fields)}
    first, requests, skipped, known, whole = float("inf"), 0, 0, set[str](), True
    for row in _rows(path, names):
        if row is None:
            skipped += 1
            continue
        first = min(first, row[0])
        requests += 1
        whole = whole and row[0] == int(row[0])
        known |= _known(_entry(0.0, row[1]))
    if not requests:
        hint = f"JSON lines want times, or name them: --fields end=...; known: {', '.join(NAMES)}"
        raise ConfigError(f"{path}: no POST request with a time in {skipped} lines", hint)
    missing = [name for name in _WANTED if name not in known]
    return AccessLog(
        file=path,
        fields=names,
        start=datetime.fromtimestamp(first, UTC),
        requests=requests,
        skipped=skipped,
        missing=(*missing, *(["fractions of a second"] if whole else [])),
    )


_WANTED = ("durations", "ttft", "model", "input tokens", "output tokens", "prefix hashes",
           "sampling")  # fmt: skip


def _known(entry: Entry) -> set[str]:
    """Which of _WANTED an entry has."""
    has = {
        "durations": entry.outcome.e2e,
        "ttft": entry.outcome.ttft,
        "model": entry.model or None,
        "input tokens": entry.input_tokens,
        "output tokens": entry.output_tokens,
    }
    return {name for name, value in has.items() if value is not None}


def parse_fields(text: str) -> dict[str, tuple[str, ...]]:
    """`end=ts,endpoint=http.path` as names. Raises ConfigError."""
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, sign, name = map(str.strip, part.partition("="))
        if not (sign and name and key in NAMES):
            raise ConfigError(f"--fields: {part[:60]!r}", f"write KEY=NAME, of {', '.join(NAMES)}")
        found[key] = (name,)
    return found


def _rows(path: str, names: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[float, Values] | None]:
    """(start in seconds of the epoch, values) of each POST; None for each other line."""
    for line in read_lines(path):
        values = _values(line, names)
        post = values is not None and str(values.get("method", "POST")).upper() == "POST"
        start = _start(values) if values is not None and post else None
        yield None if values is None or start is None else (start, values)


def _values(line: Line, names: Mapping[str, tuple[str, ...]]) -> Values | None:
    """A line's values by our names; None for a line that is no request."""
    if line.data.startswith(b"{"):
        try:
            row = msgspec.json.decode(line.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        found = {key: _looked_up(row, options) for key, options in names.items()}
        values = {key: value for key, value in found.items() if value is not None}
    else:
        match = _LINE.fullmatch(line.data.decode("utf-8", "replace"))
        if match is None:
            return None
        values = {key: match[key] for key in ("end", "status", "response_bytes")}
        values |= {"endpoint": match["request"], "method": ""}
        if times := _SECONDS.search(_QUOTED.sub('""', match["rest"])):
            values["seconds"] = times[1]
    return _parted(values)


def _parted(values: dict[str, Any]) -> Values | None:
    """`POST /v1/completions HTTP/1.1` in its parts."""
    request = values.get("endpoint")
    if not isinstance(request, str) or not request:
        return None
    words = request.split(" ")
    if len(words) == 3 and words[2].startswith("HTTP/"):
        values["method"], values["endpoint"] = words[0], words[1]
    return values


def _looked_up(row: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        value = row.get(name) if isinstance(row, dict) else None
        if value is None and "." in name:
            value = row
            for step in name.split("."):
                value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _start(values: Values) -> float | None:
    """When the request began, in seconds of the epoch."""
    start, end = _epoch(values.get("start")), _epoch(values.get("end"))
    if start is None and end is not None:
        start = end - (_duration(values) or 0.0)
    return start if start is not None and 0 <= start <= _LATEST else None


def _duration(values: Values) -> float | None:
    seconds, millis = _number(values.get("seconds")), _number(values.get("milliseconds"))
    return millis / 1e3 if seconds is None and millis is not None else seconds


def _epoch(value: Any) -> float | None:
    """A number of seconds, of milliseconds where those would lie far ahead, or a date."""
    number = _number(value)
    if number is not None:
        return number / 1e3 if number > 1e11 else number
    date = _date(value) if isinstance(value, str) else None
    return None if date is None else (date - _ZERO) / timedelta(seconds=1)


def _date(text: str) -> datetime | None:
    """ISO 8601, or as nginx has it: 10/Oct/2000:13:55:36 -0700."""
    try:
        date = datetime.fromisoformat(text)
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    except ValueError:
        pass
    try:
        return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None


def _number(value: Any) -> float | None:
    """A number from 0 on, also one in text; None for anything else."""
    try:
        number = float(value) if type(value) in (int, float, str) else -1.0
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < float("inf") else None


def _entry(at: float, values: Values) -> Entry:
    asked, answered = _tokens(values.get("input_tokens")), _tokens(values.get("output_tokens"))
    sent = _whole(values.get("request_bytes"))
    estimated = asked is None and sent is not None
    if sent is not None and estimated:
        asked = min(round(sent / BYTES_PER_TOKEN), MAX_LENGTH)
    return Entry(
        at=at,
        endpoint=str(values["endpoint"]).partition("?")[0][:200],
        model=str(values.get("model", ""))[:200],
        input_tokens=asked,
        input_estimated=estimated,
        output_tokens=answered,
        outcome=Outcome(
            status=_whole(values.get("status")) or 0,
            ttft=_number(values.get("ttft")),
            e2e=_duration(values),
        ),
        request_bytes=sent,
        response_bytes=_whole(values.get("response_bytes")),
    )


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _tokens(value: Any) -> int | None:
    count = _whole(value)
    return None if count is None else min(count, MAX_LENGTH)
