"""Processes by /proc: who descends from whom, who is alive, and ending them by pid.

A process is its pid and start time, so that a number that was given out again is never hit.
Not here: who starts them (base.py, guard.py). Standard library only: the guard loads this.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process; `start` is in clock ticks since boot."""

    pid: int
    start: int


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name: state, parent, ...; none if gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def identify(pid: int) -> Process | None:
    """The process of that pid, unless it is gone or a zombie."""
    fields = _stat(pid)
    return Process(pid, int(fields[19])) if fields and fields[0] not in "ZX" else None


def alive(process: Process) -> bool:
    """True while it runs; a zombie does not."""
    return identify(process.pid) == process


def descendants(pid: int) -> list[Process]:
    """Everything that `pid` started and that runs, whatever its session; parents first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        queue += below
        found += [p for p in map(identify, below) if p is not None]
    return found


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    """The signal to each that still runs."""
    for process in processes:
        if alive(process):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def await_end(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until all have ended, at most so long; those that have not."""
    end = time.monotonic() + seconds
    left = [p for p in processes if alive(p)]
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = [p for p in left if alive(p)]
    return left
