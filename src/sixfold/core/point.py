"""A point: one measured run of one configuration under one load, with its birth certificate.

Points are what sweeps append, stores keep and the explorer draws. A failure is a point, too. Not
here: measuring, files (instrument/store), the metrics' meaning (metrics.py).
"""

import hashlib
import math
from typing import Any, Literal

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.record import Machine

FORMAT = 1
Status = Literal["ok", "did_not_start", "out_of_memory", "timed_out", "failed"]
Source = Literal["measured", "published", "imported"]


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run. `values` are in base units (s, tok/s, req/s, fractions, $): "ttft:p95" to 0.31.

    A run that failed has a `status` that says how, a `reason`, and whatever values it still has.
    """

    id: str
    """Unique over all stores; an import that brings it again changes nothing."""
    format: int = FORMAT
    study: str = ""
    """The sweep, benchmark or import that it came with."""
    source: Source = "measured"
    origin: str = ""
    """Who measured it and under which licence, where that was not us."""
    status: Status = "ok"
    reason: str = ""
    date: str
    """When it began, UTC, ISO 8601."""

    engine: str
    engine_version: str = ""
    model: str
    hardware: str = ""
    """What it ran on, as a short name: a GPU and its count, or the CPU."""
    strategies: tuple[str, ...] = ()
    """Names of the strategy cards that were on."""
    config: dict[str, Any] = {}
    """The engine's settings by its own flag names."""
    command: str = ""
    """A command that starts this configuration."""
    workload: dict[str, Any] = {}
    """Its name and settings: what two runs of the same workload share."""
    fingerprint: dict[str, Any] = {}
    """What was really sent: lengths, prefix reuse, burstiness."""
    load: dict[str, Any] = {}
    """What was offered: concurrency, or rate and arrivals; requests."""
    seed: int = 0
    repeat: int = 0

    values: dict[str, float] = {}
    telemetry: dict[str, Any] = {}
    """What was seen beside the load: the engine's own metrics, CPU, memory, GPUs; units in names.
    "notes" says what could not be read, "tpot_by_context" how fast tokens came by context."""
    client: dict[str, Any] = {}
    """The load generator's own health; `client_bound` marks a point that shows its limit."""
    commit: str = ""
    dirty: bool = False
    machine: Machine | None = None
    versions: dict[str, str] = {}

    def __post_init__(self) -> None:
        wrong = [name for name, value in self.values.items() if not math.isfinite(value)]
        if wrong:
            raise ConfigError(f"{wrong[0]} of a point is no number", "leave out what is not known")
        if self.status != "ok" and not self.reason:
            raise ConfigError(f"a point that is {self.status} gives no reason", "say what happened")

    @property
    def key(self) -> str:
        """Equal for repeats: same engine, model, machine, configuration, workload and load."""
        what = (
            self.engine,
            self.engine_version,
            self.model,
            self.hardware,
            self.config,
            self.workload,
            self.load,
        )
        plain = msgspec.json.encode(what, order="deterministic")
        return hashlib.blake2b(plain, digest_size=8).hexdigest()
