"""Servers for benchmarks, started by the instrument's backends, ended with the block."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sixfold.instrument.backends.base import Running, start, stop
from sixfold.instrument.backends.spec import EngineSpec, Scalar


@contextmanager
def serving(spec: EngineSpec) -> Iterator[Running]:
    """The engine of `spec`, ready; its log is kept only while it runs."""
    with tempfile.TemporaryDirectory() as logs:
        running = start(spec, log_dir=Path(logs))
        try:
            yield running
        finally:
            stop(running)


def sixfold(model: str, flags: dict[str, Scalar] | None = None) -> EngineSpec:
    """Our own server."""
    return EngineSpec(engine="sixfold", model=model, flags=flags or {})


def llama_server(binary: str, model: str, slots: int, context: int, threads: int) -> EngineSpec:
    """llama.cpp's server with `slots` parallel slots that share `context` tokens."""
    flags: dict[str, Scalar] = {
        "threads": threads,
        "threads_batch": threads,
        "parallel": slots,
        "ctx_size": context,
        "no_kv_unified": True,
        "no_webui": True,
    }
    return EngineSpec(engine="llamacpp", model=model, executable=binary, flags=flags)
