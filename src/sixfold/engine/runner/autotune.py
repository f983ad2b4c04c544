"""Finds by trying, once per CPU, what no table tells: sizes of chunks, how far ahead to fetch.

None of it changes a token. The choice is kept in the cache, so that later starts try nothing.
Not here: what the numbers do (native/executor.h's Tuning).
"""

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sixfold import __version__
from sixfold.core.record import cpu_model
from sixfold.engine.kernels.ops import NativeModel, NativeOptions
from sixfold.engine.runner.kept_file import keep
from sixfold.engine.runner.step_input import StepInput, first_tokens

FILE = "tuning.json"
ROUNDS = 15
RUN_SECONDS = 0.02
"""At most, of one go of a candidate: of a large model only the first layers run."""
MARGIN = 0.05
"""By less than this nothing is better than the default: a shared machine differs by as much."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """`chunks` per thread and phase; `distance` in bytes, 0 for none."""

    chunks: int = 8
    distance: int = 8192


CHUNKS = (4, 8, 16)
DISTANCES = (0, 4096, 8192, 16384)


def tuned(model: NativeModel, options: NativeOptions, cache: Path) -> Tuning:
    """The best for this CPU: the one that is known, or found now within about a second."""
    key = f"{cpu_model()}, {options.threads} threads, {options.isa}, {__version__}"
    known = _read(cache / FILE)
    found = known.get(key)
    if found is None or found.chunks not in CHUNKS or found.distance not in DISTANCES:
        known[key] = search(model)
        keep(cache / FILE, msgspec.json.encode(known))
    return known[key]


def search(model: NativeModel) -> Tuning:
    """By one token's forward for the chunks, by four tokens' for the distance."""
    chunks = _best(model, 1, Tuning(), [Tuning(chunks=chunks) for chunks in CHUNKS]).chunks
    distances = [Tuning(chunks, distance) for distance in DISTANCES]
    return _best(model, 4, Tuning(chunks), distances)


def _best(model: NativeModel, rows: int, default: Tuning, candidates: list[Tuning]) -> Tuning:
    """In turn, so that a busy moment meets all of them. `default` is one of them."""
    step = first_tokens(rows, model.num_kv_groups)
    model.forward(step)
    whole = _seconds(model, step, model.num_ops)
    ops = max(1, min(model.num_ops, int(model.num_ops * RUN_SECONDS / max(whole, 1e-6))))
    taken: dict[Tuning, list[float]] = {candidate: [] for candidate in candidates}
    for _ in range(ROUNDS):
        for candidate in candidates:
            model.set_tuning(candidate.chunks, candidate.distance)
            taken[candidate].append(_seconds(model, step, ops))
    found = {candidate: min(times) for candidate, times in taken.items()}
    best = min(candidates, key=lambda c: found[c])
    return best if found[best] < found[default] * (1 - MARGIN) else default


def _seconds(model: NativeModel, step: StepInput, ops: int) -> float:
    began = time.perf_counter()
    model.forward(step, 0, ops)
    return time.perf_counter() - began


def _read(path: Path) -> dict[str, Tuning]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Tuning])
    except (OSError, msgspec.DecodeError):
        return {}
