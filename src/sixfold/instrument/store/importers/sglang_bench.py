"""SGLang: the JSON Lines that `sglang.bench_serving --output-file` appends to.

Not here: single-batch benchmarks, its per-request details.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sixfold.core.point import Point
from sixfold.instrument.store.importers.common import (
    UNKNOWN,
    Json,
    flat_values,
    imported,
    outcome,
    plain,
    shaped,
)

TOOL = "sglang.bench_serving"
SETTINGS = (
    *("tp_size", "dp_size", "pp_size", "ep_size", "quantization", "kv_cache_dtype"),
    *("max_running_requests", "chunked_prefill_size", "mem_fraction_static", "schedule_policy"),
    *("disable_radix_cache", "attention_backend", "speculative_algorithm"),
)
"""Of the server's many arguments, those that are worth comparing."""
ENGINES = ("sglang", "vllm", "trt", "lmdeploy")


class SglangResult(msgspec.Struct):
    """One line."""

    backend: str
    dataset_name: str | None = None
    request_rate: float | str | None = None
    max_concurrency: int | None = None
    random_input_len: int | None = None
    random_output_len: int | None = None
    random_range_ratio: float | None = None
    sharegpt_output_len: int | None = None
    server_info: dict[str, Any] | None = None
    completed: int | None = None


def sniff(document: Json) -> bool:
    """Whether it is a line of bench_serving."""
    return "backend" in document and "mean_e2e_latency_ms" in document and "completed" in document


def points(document: Json, name: str) -> Iterator[Point]:
    """The one point of a line; requests that failed are not told, so no error rate."""
    found = shaped(document, SglangResult, TOOL)
    server = found.server_info or {}
    engine = next((e for e in ENGINES if found.backend.startswith(e)), UNKNOWN)
    yield imported(
        TOOL,
        name,
        document,
        {
            "date": "",
            "engine": "tensorrt-llm" if engine == "trt" else engine,
            "engine_version": _text(server.get("version")),
            "model": _text(server.get("model_path")) or UNKNOWN,
            "config": plain({n: server.get(n) for n in SETTINGS}),
            "workload": _workload(found),
            "load": _load(found),
        }
        | outcome(flat_values(document), found.completed, None),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _workload(found: SglangResult) -> Json:
    workload: Json = {"name": found.dataset_name}
    if (found.dataset_name or "").startswith("random"):
        workload |= {"isl": found.random_input_len, "osl": found.random_output_len}
        workload |= {"range_ratio": found.random_range_ratio}
    elif found.dataset_name == "sharegpt":
        workload |= {"osl": found.sharegpt_output_len}
    return plain(workload)


def _load(found: SglangResult) -> Json:
    endless = found.request_rate in ("inf", float("inf"))
    rate = None if endless else found.request_rate
    return plain({"concurrency": found.max_concurrency, "rate": rate})
