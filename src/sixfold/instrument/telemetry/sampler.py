"""Takes telemetry in a thread beside a load, and sums it up after it.

The thread only fetches and keeps: what costs time in the interpreter comes when the load is
over. Nothing here ends a run. Not here: what is read (engine.py, host.py, gpu.py).
"""

import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from sixfold.instrument.backends.processes import Process
from sixfold.instrument.telemetry.engine import EngineProbe
from sixfold.instrument.telemetry.gpu import DCGM_URL, DcgmProbe, NvmlProbe
from sixfold.instrument.telemetry.histograms import STATISTICS
from sixfold.instrument.telemetry.host import HostProbe
from sixfold.instrument.telemetry.series import Probe

PERIOD = 1.0
CANONICAL = {
    "engine_kv_cache_usage_max_fraction": "kv_usage",
    "engine_preemptions_count": "preemptions",
    "engine_acceptance_fraction": "acceptance_rate",
} | {f"engine_queue_{stat}_seconds": f"queue:{stat}" for stat in STATISTICS}
"""What telemetry knows under names of metrics that objectives may bound."""


class Telemetry:
    """Reads its probes when it is entered, each `period` seconds, and when it is left."""

    def __init__(self, probes: Sequence[Probe], period: float = PERIOD) -> None:
        self._probes = list(probes)
        self._period = period
        self._notes: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="telemetry", daemon=True)

    def __enter__(self) -> "Telemetry":
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._read()

    def _sample(self) -> None:
        while self._probes and not self._over.wait(self._period):
            self._read()

    def _read(self) -> None:
        for probe in list(self._probes):
            try:
                probe.read()
            except Exception as error:  # a measurement must not fail for what stands beside it
                self._broken(probe, error)

    def _broken(self, probe: Probe, error: Exception) -> None:
        self._probes.remove(probe)
        self._notes += [*probe.notes, f"{type(probe).__name__}: {type(error).__name__}: {error}"]

    def summary(self) -> dict[str, Any]:
        """All numbers in one flat dict, units in the names; "notes" says what can't be read."""
        values: dict[str, Any] = {}
        for probe in list(self._probes):
            try:
                values |= probe.summary()
            except Exception as error:
                self._broken(probe, error)
        notes = [*self._notes, *(note for probe in self._probes for note in probe.notes)]
        return values | ({"notes": notes} if notes else {})


def probes_for(
    url: str, *, local: bool, gpu_url: str = "", roots: Iterable[Process] = ()
) -> list[Probe]:
    """What can be read for a server: its page; if it is on this machine, that and its GPUs, too."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    probes: list[Probe] = [EngineProbe(url)]
    if local:
        probes.append(HostProbe(port, roots))
    if gpu_url:
        probes.append(DcgmProbe(gpu_url, expected=True))
    elif local:
        nvml = NvmlProbe()
        # Both would tell of the same GPUs: DCGM where the package is not there.
        probes.append(nvml if nvml.found else DcgmProbe(DCGM_URL))
    return probes


def canonical_values(telemetry: dict[str, Any]) -> dict[str, float]:
    """Those of the telemetry that are metrics of a run by their own names."""
    return {name: telemetry[key] for key, name in CANONICAL.items() if key in telemetry}
