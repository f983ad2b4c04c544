"""What a trace shows: its requests, their rate and lengths, shared prefixes, and layout losses.

Not here: reading lines (trace_file), the layout check itself (workloads/layout).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from sixfold.core.metrics import percentile
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.recorder.entry import BYTES_PER_TOKEN, Entry, Header, rendered
from sixfold.instrument.recorder.trace_file import read_entries, read_header
from sixfold.instrument.workloads.files import JsonlConfig, jsonl
from sixfold.instrument.workloads.fingerprint import Distribution, distribution, fingerprint
from sixfold.instrument.workloads.layout import Layout, check_layout
from sixfold.instrument.workloads.lines import read_lines

NO_TEXT = "the layout check needs the prompts' text: record with --keep-text"
_MOST = 8
"""Rows of a list that are shown."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A trace in numbers. Times in seconds."""

    file: str
    requests: int
    load: int
    """Of them, those that a workload is made of: answered, of known lengths."""
    span: float
    """From the load's first to its last; of all requests where none is load."""
    rate: float
    """Per second."""
    burstiness: float
    """Coefficient of variation of the times between them: about 1 for Poisson."""
    input: Distribution
    """Tokens of the load's prompts."""
    output: Distribution
    estimated: float
    """Share of the load whose lengths nobody counted, 0 to 1."""
    prefix_reuse: float | None
    """Share of the load's whole blocks that an endless cache would have had; None: not known."""
    sessions: int
    """Conversations of more than one request."""
    statuses: dict[str, int]
    errors: dict[str, int]
    client_gone: int
    endpoints: dict[str, int]
    models: dict[str, int]
    times: dict[str, float]
    """ttft and e2e of the load: p50 and p95, where they are known."""
    missing: tuple[str, ...] = ()
    """What an access log did not say."""
    layout: Layout | None = None
    layout_note: str = ""
    """Why there is no layout check."""

    def lines(self) -> str:
        """As text."""
        rows = [
            f"{self.file}: {self.requests} requests",
            *(f"{name}: {_listed(table)}" for name, table in self._tables() if table),
            f"load: {self.load} requests were answered and have lengths{self._estimated()}",
            f"arrivals: {self.rate:.4g}/s over {self.span:.4g} s, CV {self.burstiness:.3g}",
        ]
        if self.load:
            rows += [f"input tokens: {self.input}", f"output tokens: {self.output}"]
        if self.prefix_reuse is not None:
            rows.append(
                f"prefix reuse: {self.prefix_reuse:.1%} of whole blocks, in an endless cache; "
                f"conversations of several requests: {self.sessions}"
            )
        if self.times:
            shown = ", ".join(f"{name} {value:.3g} s" for name, value in self.times.items())
            rows.append(f"as recorded: {shown}")
        if self.client_gone:
            rows.append(f"clients that left before the end: {self.client_gone}")
        if self.missing:
            rows.append(f"the access log does not say: {', '.join(self.missing)}")
        rows.append(self.layout.lines() if self.layout else self.layout_note)
        return "\n".join(rows)

    def _tables(self) -> tuple[tuple[str, dict[str, int]], ...]:
        return (
            ("endpoints", self.endpoints),
            ("models", self.models),
            ("status", self.statuses),
            ("errors", self.errors),
        )

    def _estimated(self) -> str:
        return f", {self.estimated:.0%} of them estimated" if self.estimated else ""


def report_trace(path: str) -> Report:
    """The report of a trace. Raises ConfigError for a file that is none."""
    return summed_up(path, read_header(path), list(read_entries(read_lines(path))))


def check_prompts(path: str) -> Layout:
    """The layout check of a file of prompts, as the workload `jsonl` reads it."""
    sessions = jsonl(JsonlConfig(file=path, holdout=False), 0)
    texts = ["".join([s.system, *(turn.text for turn in s.turns)]) for s in sessions]
    return check_layout([text for text in texts if text])


def summed_up(file: str, header: Header, entries: Sequence[Entry]) -> Report:
    """The report of entries."""
    load = [entry for entry in entries if entry.is_load]
    counted = load or entries
    # Blocks in place of tokens: what they share, and when.
    shape = fingerprint(list(map(_blocks, counted)), [entry.at for entry in counted], block=1)
    sessions = Counter(entry.session for entry in entries if entry.session)
    texts = [entry for entry in load if entry.prompt]
    return Report(
        file=file,
        requests=len(entries),
        load=len(load),
        span=shape.span,
        rate=shape.rate,
        burstiness=shape.burstiness,
        input=distribution(entry.input_tokens or 0 for entry in load),
        output=distribution(entry.output_tokens or 0 for entry in load),
        estimated=sum(e.input_estimated or e.output_estimated for e in load) / max(1, len(load)),
        prefix_reuse=shape.prefix_reuse if any(e.hash_ids for e in load) else None,
        sessions=sum(count > 1 for count in sessions.values()),
        statuses=_count(str(entry.outcome.status or "none") for entry in entries),
        errors=_count(entry.outcome.error for entry in entries),
        client_gone=sum(entry.outcome.client_gone for entry in entries),
        endpoints=_count(entry.endpoint for entry in entries),
        models=_count(entry.model for entry in entries),
        times=_times(load),
        missing=header.missing,
        layout=_layout(texts) if texts else None,
        layout_note="" if texts else NO_TEXT,
    )


def _blocks(entry: Entry) -> Session:
    return Session(turns=(Turn(token_ids=entry.hash_ids, max_tokens=entry.output_tokens or 1),))


def _layout(entries: Sequence[Entry]) -> Layout:
    """Prompts in the order of arrival."""
    ordered = sorted(entries, key=lambda entry: entry.at)
    tokens = sum(entry.input_tokens or 0 for entry in ordered)
    chars = sum(entry.chars for entry in ordered)
    ratio = chars / tokens if chars and tokens else BYTES_PER_TOKEN
    return check_layout([rendered(entry.prompt) for entry in ordered], ratio)


def _times(load: Sequence[Entry]) -> dict[str, float]:
    known = {
        "ttft": [e.outcome.ttft for e in load if e.outcome.ttft is not None],
        "e2e": [e.outcome.e2e for e in load if e.outcome.e2e is not None],
    }
    return {
        f"{name}:p{percent}": percentile(values, percent)
        for name, values in known.items()
        for percent in (50, 95)
        if values
    }


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(value for value in values if value).most_common())


def _listed(table: dict[str, int]) -> str:
    """The most frequent; names of strangers show nothing that could steer a terminal."""
    shown = [f"{_plain(name)} {count}" for name, count in list(table.items())[:_MOST]]
    return ", ".join([*shown, *([f"{len(table) - _MOST} more"] if len(table) > _MOST else [])])


def _plain(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]
