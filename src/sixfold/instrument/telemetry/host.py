"""The machine beside a load, by /proc: CPU of all, of the engine's processes, of others; memory.

The engine's processes are those that listen on its port, and all below them. Linux only; other
systems get a note. Not here: GPUs (gpu.py), ending processes (backends/processes.py).
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sixfold.instrument.backends.processes import Process, descendants, identify
from sixfold.instrument.telemetry.series import Series, known

LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""
RESCAN = 5
"""Readings between two looks for new processes of the engine."""
PROC = Path("/proc")


def listening_inodes(table: str, port: int) -> set[str]:
    """Inodes of the sockets that listen on a port, in the text of /proc/net/tcp or tcp6."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == LISTEN:
            local = fields[1].rpartition(":")[2]
            if int(local, 16) == port:
                found.add(fields[9])
    return found


def listeners(port: int) -> list[Process]:
    """The processes that listen on a TCP port here, as far as we may look into them."""
    inodes: set[str] = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError, ValueError):
            inodes |= listening_inodes((PROC / "net" / name).read_text(), port)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    pids = [int(entry) for entry in os.listdir(PROC) if entry.isdigit()] if wanted else []
    holders = [pid for pid in pids if any(link in wanted for link in _links(pid))]
    return [process for process in map(identify, holders) if process is not None]


def _links(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for name in os.listdir(PROC / str(pid) / "fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(PROC / str(pid) / "fd" / name)


def tree(roots: Iterable[Process]) -> list[Process]:
    """The processes and all that they started."""
    found = {process: None for process in roots}
    for root in list(found):
        found |= dict.fromkeys(descendants(root.pid))
    return list(found)


def busy_seconds(stat: str) -> float:
    """CPU seconds since boot that were not idle, of all cores, in the text of /proc/stat."""
    fields = [int(field) for field in stat.splitlines()[0].split()[1:9]]
    return (sum(fields) - sum(fields[3:5])) / os.sysconf("SC_CLK_TCK")


def usage(process: Process) -> tuple[float, float] | None:
    """CPU seconds so far, and resident bytes; None if it has ended."""
    try:
        text = (PROC / str(process.pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if len(fields) < 22 or int(fields[19]) != process.start:
        return None
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, float(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


class HostProbe:
    """Reads the machine, and the processes of the engine that listens on `port`."""

    def __init__(self, port: int, roots: Iterable[Process] = ()) -> None:
        self.notes: list[str] = []
        self._port = port
        self._roots = list(roots)
        self._tree: list[Process] = []
        self._cpu: dict[Process, float] = {}
        self._before: dict[Process, float] = {}
        self._series = Series()
        self._readings = 0

    def read(self) -> None:
        """One look at /proc."""
        if not self._readings:
            self._find()
        elif self._readings % RESCAN == 0:
            self._tree = tree(self._roots)
        try:
            busy = busy_seconds((PROC / "stat").read_text())
        except (OSError, ValueError, IndexError):
            if not self._readings:
                self.notes.append("host: /proc/stat can't be read: CPU use is not known")
            busy = float("nan")
        self._add(busy)
        self._readings += 1

    def _find(self) -> None:
        with contextlib.suppress(OSError):
            self._roots = self._roots or listeners(self._port)
        if any(root.pid == os.getpid() for root in self._roots):
            self._roots = []
            self.notes.append("host: the engine runs in the client's process: no CPU of its own")
        elif not self._roots:
            self.notes.append(f"host: no process of ours listens on port {self._port}")
        self._tree = tree(self._roots)

    def _add(self, busy: float) -> None:
        memory = 0.0
        for process in self._tree:
            found = usage(process)
            if found is not None:
                # What came after the first reading has used all its time since.
                self._before.setdefault(process, 0.0 if self._readings else found[0])
                self._cpu[process], own = found
                memory += own
        if self._tree:
            self._series.add("rss", memory)
            self._series.add("engine", sum(self._cpu[p] - self._before[p] for p in self._cpu))
        self._series.add("busy", busy)
        self._series.add("client", time.process_time())
        self._series.add("time", time.monotonic())

    def summary(self) -> dict[str, float]:
        """Cores in use on the mean (1.0: one core, all the time), and the engine's memory."""
        seconds = self._series.growth("time")
        if not seconds:
            return {}
        grown = {name: self._series.growth(name) for name in ("busy", "client", "engine")}
        cores = {name: None if v is None else v / seconds for name, v in grown.items()}
        # Without the engine's share, nobody can say which of the rest is foreign.
        foreign = None
        if cores["busy"] is not None and cores["engine"] is not None:
            foreign = max(cores["busy"] - cores["engine"] - (cores["client"] or 0.0), 0.0)
        return known(
            host_cpu_cores=cores["busy"],
            host_threads_count=float(os.cpu_count() or 1),
            client_cpu_cores=cores["client"],
            engine_cpu_cores=cores["engine"],
            foreign_cpu_cores=foreign,
            engine_rss_max_bytes=self._series.peak("rss"),
            engine_processes_count=float(len(self._cpu)) if self._cpu else None,
        )
