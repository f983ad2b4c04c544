"""vLLM: `vllm bench serve --save-result` (and --append-result), `vllm bench sweep` run files.

A sweep's run is a serve result with `run_number` and then the overrides that it ran with; its
summary.json is a list of those. Not here: sweeps' CSV tables, start-up benchmarks.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from sixfold.core.point import Point
from sixfold.instrument.store.importers.common import (
    UNKNOWN,
    Json,
    flat_values,
    imported,
    number,
    outcome,
    plain,
    shaped,
)

TOOL = "vllm bench"
_RESULT = re.compile(r"(mean|median|std|p[\d.]+)_\w+_ms|\w*throughput|request_goodput|_.*")


class VllmResult(msgspec.Struct):
    """One serve result."""

    model_id: str
    backend: str | None = None
    date: str | None = None
    num_prompts: int | None = None
    request_rate: float | str | None = None
    burstiness: float | None = None
    max_concurrency: int | None = None
    completed: int | None = None
    failed: int | None = None
    total_input_tokens: int | None = None
    total_output_tokens: int | None = None
    run_number: int | None = None


def sniff(document: Json) -> bool:
    """Whether it is a serve result."""
    return "model_id" in document and "completed" in document and "request_throughput" in document


def points(document: Json, name: str) -> Iterator[Point]:
    """The one point of a serve result."""
    found = shaped(document, VllmResult, TOOL)
    failed = found.failed
    if failed is None and found.num_prompts is not None and found.completed is not None:
        failed = max(0, found.num_prompts - found.completed)
    yield imported(
        TOOL,
        name,
        document,
        {
            "date": _date(found.date or ""),
            "engine": _engine(found),
            "model": found.model_id,
            "config": _between(document, "num_prompts", "request_rate")
            | _between(document, "run_number", None),
            "fingerprint": _means(found),
            "load": _load(found),
            "repeat": found.run_number or 0,
        }
        | outcome(flat_values(document), found.completed, failed),
    )


def _engine(found: VllmResult) -> str:
    """A sweep starts `vllm serve`; else the backend's name, where that is not just a protocol."""
    if found.run_number is not None:
        return "vllm"
    backend = found.backend or UNKNOWN
    return UNKNOWN if backend.startswith(("openai", "infinity")) else backend


def _between(document: Json, first: str, last: str | None) -> Json:
    """Settings that the writer puts, in its order, after one key and before another."""
    names = list(document)
    if first not in document or (last is not None and last not in document):
        return {}
    end = names.index(last) if last is not None else len(names)
    inside = names[names.index(first) + 1 : end]
    settings: Json = {n: document[n] for n in inside if not _RESULT.fullmatch(n)}
    return plain({n: v for n, v in settings.items() if not isinstance(v, list | dict)})


def _load(found: VllmResult) -> Json:
    endless = found.request_rate in ("inf", float("inf"))
    load: dict[str, Any] = {"concurrency": found.max_concurrency, "requests": found.num_prompts}
    if not endless:
        load |= {"rate": found.request_rate, "burstiness": found.burstiness}
    return plain(load)


def _means(found: VllmResult) -> Json:
    """Mean lengths of the requests that succeeded: the file's totals count those alone."""
    done = number(found.completed)
    if not done or done < 0:
        return {}
    totals = {"isl": number(found.total_input_tokens), "osl": number(found.total_output_tokens)}
    return {name: total / done for name, total in totals.items() if total is not None}


def _date(text: str) -> str:
    """The writer's local time (of a zone it does not tell), so without a Z."""
    try:
        return f"{datetime.strptime(text, '%Y%m%d-%H%M%S'):%Y-%m-%dT%H:%M:%S}"
    except ValueError:
        return ""
