"""A result with its birth certificate: what was measured, on what, from which commit.

Tables in the docs are generated from records. Not here: measuring, or rendering.
"""

import math
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError

FORMAT = 1
VERSIONED = ("sixfold", "numpy", "tokenizers", "msgspec", "starlette", "uvicorn", "h11")


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The machine of a measurement. `limits` are probed (engine/kernels/cpu.py), not assumed."""

    cpu: str
    threads: int
    memory_gb: float
    system: str
    isa: str = ""
    limits: dict[str, float] = {}


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Repeated values of one number, in the order in which they were taken."""

    values: list[float]
    unit: str

    @property
    def median(self) -> float:
        """The number to quote."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """(max - min) / median: how far the repeats disagree; 0 for one value or a median of 0."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A result and its provenance.

    `results` maps a variant (a row of a table) to its measures (the columns). Repeats and spread
    are in the measures. `dirty` says that the tree had changes that the commit lacks.
    """

    name: str
    title: str
    format: int = FORMAT
    commit: str
    dirty: bool
    date: str
    machine: Machine
    versions: dict[str, str]
    config: dict[str, Any]
    workload: dict[str, Any]
    seed: int
    results: dict[str, dict[str, Measure]]
    notes: str = ""


def git_state(root: Path) -> tuple[str, bool]:
    """(commit, dirty) of a checkout; ("unknown", True) where there is none.

    Dirty means changed code: records and pages made of them (docs/) do not count, so that one
    record after the other can be made on a commit.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", ".", ":!docs"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def versions(names: tuple[str, ...] = VERSIONED) -> dict[str, str]:
    """Versions of Python and of the installed packages among `names`."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The CPU's own name, or "unknown"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")


def memory_gb() -> float:
    """Physical memory in GB (10^9 bytes)."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def system() -> str:
    """Operating system, without host names."""
    return f"{platform.system()} {platform.release()} {platform.machine()} ({sys.platform})"


def write_record(record: Record, path: Path) -> None:
    """Write JSON; the file appears whole or not at all. Raises ConfigError for NaN or infinity."""
    plain = msgspec.to_builtins(record)
    _refuse_nan(plain, record.name)
    data = msgspec.json.format(msgspec.json.encode(plain), indent=1) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".record-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def read_record(path: Path) -> Record:
    """Read what write_record wrote. Raises ConfigError that names the file and the fault."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is no record: {error}", "measure it again") from error
    if record.format != FORMAT:
        raise ConfigError(
            f"{path.name} has format {record.format}, this build reads {FORMAT}", "measure it again"
        )
    return record


def _refuse_nan(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} is {value}", "a record holds numbers only: leave it out")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nan(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_nan(item, f"{where}[{index}]")
