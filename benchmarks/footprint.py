"""What running sixfold costs beside tokens: start, idle CPU, memory, native build, installed size.

A warm start is from `sixfold serve` to a /ready that says yes, weights packed and in the page
cache. Idle CPU is that of the whole process tree over some seconds after it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import servers
from recording import ROOT, save
from sixfold.core.record import Measure
from tables import render

IDLE_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


def usage(pids: Sequence[int]) -> tuple[float, float]:
    """(CPU seconds, resident MB) of some processes together."""
    ticks = pages = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
        pages += int(fields[21])
    return ticks / TICKS, pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def one_server(model: str) -> dict[str, float]:
    """Start, look at it idle, stop."""
    with servers.serving(servers.sixfold(model)) as server:
        time.sleep(1.0)
        before, _ = usage(server.pids)
        time.sleep(IDLE_SECONDS)
        after, resident = usage(server.pids)
    idle = 100 * (after - before) / IDLE_SECONDS
    return {"ready": server.seconds, "idle": idle, "resident": resident}


def native_build() -> float:
    """Seconds to configure and compile native/ from nothing, on all cores."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        for command in (
            ["cmake", "-S", str(ROOT), "-B", folder, "-DCMAKE_BUILD_TYPE=Release",
             f"-DPython_EXECUTABLE={sys.executable}"],
            ["cmake", "--build", folder, "-j", str(os.cpu_count())],
        ):  # fmt: skip
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began


def installed_mb(wheel: Path) -> float:
    """MB of a fresh environment's packages with the wheel in it, pip and setuptools not counted."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        command = [str(python), "-m", "pip", "install", "-q", "--no-compile", str(wheel)]
        subprocess.run(command, check=True)
        packages = next(Path(folder).glob("lib/python*/site-packages"))
        for tool in ("pip", "setuptools", "pkg_resources", "_distutils_hack"):
            shutil.rmtree(packages / tool, ignore_errors=True)
        return sum(f.stat().st_size for f in packages.rglob("*") if f.is_file()) / 1e6


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wheel", type=Path, help="measure the installed size of this wheel")
    parser.add_argument("--record", action="store_true", help="write docs/results/footprint.json")
    a = parser.parse_args()
    with servers.serving(servers.sixfold(a.model)):
        pass  # packs the weights, warms the page cache
    runs = [one_server(a.model) for _ in range(a.repeats)]
    row = {
        "warm start to ready": Measure(values=[r["ready"] for r in runs], unit="s"),
        "idle CPU": Measure(values=[r["idle"] for r in runs], unit="% of a core"),
        "resident": Measure(values=[r["resident"] for r in runs], unit="MB"),
        "native build": Measure(values=[native_build()], unit="s"),
    }
    if a.wheel:
        row["installed"] = Measure(values=[installed_mb(a.wheel)], unit="MB")
    results = {a.model: row}
    print(render(results))
    if a.record:
        save("footprint", "Start, idle, memory, build and install", {"model": a.model}, results)


if __name__ == "__main__":
    main()
