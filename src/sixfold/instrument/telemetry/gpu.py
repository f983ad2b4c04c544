"""GPUs beside a load: DCGM exporter's page, or NVML where the package `pynvml` is installed.

One form for both: use, memory, power and energy of each GPU by its number. Not here: other
vendors; what a use of 100 % means (it says that kernels ran, not that they ran well).
"""

import contextlib
import importlib
from typing import Any
from urllib.parse import urlsplit

from sixfold.instrument.backends.fetch import fetch
from sixfold.instrument.backends.scrape import Scrape, parse
from sixfold.instrument.backends.spec import Request
from sixfold.instrument.telemetry.series import Series, known

DCGM_URL = "http://127.0.0.1:9400/metrics"
"""Where DCGM exporter answers unless told otherwise."""
TIMEOUT = 2.0
MIB = 1024.0 * 1024.0
DCGM: dict[str, tuple[str, float]] = {
    "DCGM_FI_DEV_GPU_UTIL": ("use", 0.01),
    "DCGM_FI_DEV_FB_USED": ("used", MIB),
    "DCGM_FI_DEV_FB_FREE": ("free", MIB),
    "DCGM_FI_DEV_POWER_USAGE": ("power", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy", 0.001),
}
"""Field -> what it is here, and its unit in fractions, bytes, watts and joules."""

Reading = dict[str, dict[str, float]]
"""GPU's number -> use, used, free, power, energy, as far as they are known."""


def dcgm_reading(page: Scrape) -> Reading:
    """What a page of DCGM exporter says of each GPU; of a GPU's parts (MIG), memory is added up."""
    found: Reading = {}
    for field, (name, unit) in DCGM.items():
        for sample in page.samples.get(field, ()):
            gpu = found.setdefault(sample.labels.get("gpu", "0"), {})
            value = sample.value * unit
            before = gpu.get(name, 0.0)
            gpu[name] = before + value if name in ("used", "free") else max(before, value)
    return found


class GpuSeries:
    """Readings, summed up."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}

    def add(self, reading: Reading) -> None:
        """One more reading."""
        for gpu, values in reading.items():
            for name, value in values.items():
                self._series.setdefault(gpu, Series()).add(name, value)

    def summary(self) -> dict[str, float]:
        """By GPU: "gpu0_use_mean_fraction" ...; and the energy of all."""
        values: dict[str, float] = {}
        energies = []
        for gpu, series in sorted(self._series.items()):
            own = known(
                use_mean_fraction=series.mean("use"),
                use_max_fraction=series.peak("use"),
                memory_used_max_bytes=series.peak("used"),
                memory_free_mean_bytes=series.mean("free"),
                power_mean_watts=series.mean("power"),
                power_max_watts=series.peak("power"),
                energy_joules=series.growth("energy"),
            )
            values |= {f"gpu{gpu}_{name}": value for name, value in own.items()}
            energies += [own["energy_joules"]] if "energy_joules" in own else []
        return values | ({"gpu_energy_joules": sum(energies)} if energies else {})


class DcgmProbe:
    """Reads DCGM exporter's page. `expected`: its absence is worth a note."""

    def __init__(self, url: str = DCGM_URL, *, expected: bool = False) -> None:
        self.notes: list[str] = []
        self._url = url
        self._expected = expected
        self._pages: list[bytes] = []
        self._absent = False

    def read(self) -> None:
        """Fetch the page and keep what matters of it; once it was not there, no more."""
        if self._absent:
            return
        with contextlib.suppress(OSError, ValueError):
            path = urlsplit(self._url).path or "/metrics"
            status, page = fetch(self._url, Request("GET", path), TIMEOUT)
            if status == 200 and b"DCGM_FI_" in page:
                wanted = tuple(name.encode() for name in DCGM)
                lines = [line for line in page.split(b"\n") if line.startswith(wanted)]
                self._pages.append(b"\n".join(lines))
                return
        if not self._pages:
            self._absent = True
            if self._expected:
                self.notes.append(f"gpu: no DCGM exporter answers at {self._url}")

    def summary(self) -> dict[str, float]:
        """As GpuSeries."""
        series = GpuSeries()
        for page in self._pages:
            series.add(dcgm_reading(parse(page)))
        return series.summary()


class NvmlProbe:
    """Reads NVML by `pynvml`, where that is installed; else it has nothing to say."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._series = GpuSeries()
        self._nvml: Any = None
        self._gpus: list[Any] = []
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
            self._gpus = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(count)]
            self._nvml = nvml
        except Exception as error:  # its errors have no common base that is known without it
            self.notes.append(f"gpu: NVML can't be asked: {error}")

    @property
    def found(self) -> bool:
        """Whether there is a GPU to ask."""
        return bool(self._gpus) and self._nvml is not None

    def read(self) -> None:
        """Ask each GPU."""
        if self._nvml is not None:
            self._series.add({str(n): self._ask(gpu) for n, gpu in enumerate(self._gpus)})

    def _ask(self, gpu: Any) -> dict[str, float]:
        """What this GPU tells; many lack one thing or another."""
        nvml, found = self._nvml, dict[str, float]()
        with contextlib.suppress(Exception):
            found["use"] = nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100
        with contextlib.suppress(Exception):
            memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
            found |= {"used": float(memory.used), "free": float(memory.free)}
        with contextlib.suppress(Exception):
            found["power"] = nvml.nvmlDeviceGetPowerUsage(gpu) / 1000
        with contextlib.suppress(Exception):
            found["energy"] = nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000
        return found

    def summary(self) -> dict[str, float]:
        """As GpuSeries."""
        return self._series.summary()
