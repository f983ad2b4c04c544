"""llm-optimizer: the JSON of a finished sweep, the JSON Lines of a running one, one run's file.

All hold the same object per run, so that a sweep read twice gives the same points. Not here: its
constraints and chosen best configurations.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sixfold.core.point import Point
from sixfold.instrument.store.importers.common import (
    UNKNOWN,
    Json,
    flat_values,
    hardware,
    imported,
    number,
    outcome,
    plain,
    shaped,
)

TOOL = "llm-optimizer"
LOAD = {"max_concurrency": "concurrency", "request_rate": "rate", "num_prompts": "requests"}
NOT_WORKLOAD = (*LOAD, "seed", "random_input_len", "random_output_len", "dataset_name")
DEFAULT_DATASET = "sharegpt"
DEFAULT_REQUESTS = 1000
DEFAULT_SEED = 1


class OptimizerSettings(msgspec.Struct):
    """A run's arguments, by the engine's and the client's own names."""

    client_args: dict[str, Any] = {}
    server_args: dict[str, Any] = {}


class OptimizerMetadata(msgspec.Struct):
    """What it ran on, and what; a length of 0 or -1 is one that varies."""

    gpu_type: str | None = None
    gpu_count: int | None = None
    model_tag: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class OptimizerRun(msgspec.Struct):
    """One run."""

    config: OptimizerSettings
    results: dict[str, Any] | None = None
    cmd: str | None = None
    error: str | None = None
    metadata: OptimizerMetadata | None = None


def sniff(document: Json) -> bool:
    """Whether it is a sweep or one run of it."""
    if isinstance(document.get("test_results"), list):
        return True
    config = document.get("config")
    return isinstance(config, dict) and ("client_args" in config or "server_args" in config)


def points(document: Json, name: str) -> Iterator[Point]:
    """A point for each run, also for one without results."""
    runs = document.get("test_results", [document])
    shared = document.get("metadata") if "test_results" in document else None
    for raw in runs:
        run = shaped(raw, OptimizerRun, TOOL)
        if shared and run.metadata is None:
            run.metadata = shaped(shared, OptimizerMetadata, TOOL)
        yield imported(TOOL, name, raw, _fields(run))


def _fields(run: OptimizerRun) -> Json:
    client, about = run.config.client_args, run.metadata or OptimizerMetadata()
    return {
        "date": "",
        "engine": _engine(run.cmd or ""),
        "model": about.model_tag or UNKNOWN,
        "hardware": hardware(about.gpu_type, about.gpu_count),
        "config": plain(run.config.server_args),
        "command": (run.cmd or "").strip(),
        "workload": _workload(client, about),
        "load": {"requests": DEFAULT_REQUESTS}
        | plain({new: client.get(old) for old, new in LOAD.items()}),
        "seed": int(number(client.get("seed", DEFAULT_SEED)) or 0),
    } | _outcome(run)


def _outcome(run: OptimizerRun) -> Json:
    found = run.results or {}
    made = outcome(flat_values(found), number(found.get("completed")), None)
    if not found and run.error:
        made["reason"] = run.error
    return made


def _engine(command: str) -> str:
    names = {"vllm": "vllm", "sglang": "sglang", "max serve": "max"}
    return next((name for part, name in names.items() if part in command), UNKNOWN)


def _workload(client: Json, about: OptimizerMetadata) -> Json:
    rest = {name: value for name, value in client.items() if name not in NOT_WORKLOAD}
    lengths = {"isl": about.input_tokens, "osl": about.output_tokens}
    known = {name: tokens for name, tokens in lengths.items() if tokens and tokens > 0}
    return plain({"name": client.get("dataset_name", DEFAULT_DATASET)} | known | rest)
