"""Runs a server and never outlives its owner: `python -m ...backends.guard OWNER_PID GRACE CMD...`.

The guard adopts all that the command starts (it is the subreaper), so its descendants are the
whole tree, whatever sessions they moved to. It ends the tree when it gets SIGTERM, when its stdin
(a pipe of the owner) closes, or when the owner is no longer its parent. If the guard itself is
killed, the kernel kills the command. Not here: readiness, logs (base.py).
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

from sixfold.instrument.backends.processes import Process, descendants, identify, send

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.1
NOT_RUN = 127
"""Exit code when the command can't be run, as shells give it."""


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")


def _in_child() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _reap() -> None:
    """Collect adopted children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end(child: Process | None, grace: float) -> None:
    """SIGTERM to the command, then to all it left, then SIGKILL until nobody is there."""
    me = os.getpid()
    send([child] if child else [], signal.SIGTERM)
    end = time.monotonic() + grace
    while child is not None and identify(child.pid) == child and time.monotonic() < end:
        time.sleep(0.02)
    send(descendants(me), signal.SIGTERM)
    patience = time.monotonic() + min(grace, 1.0)
    while left := descendants(me):
        if time.monotonic() > patience:
            send(left, signal.SIGKILL)
        _reap()
        time.sleep(0.02)


def _watch(child: subprocess.Popen[bytes], owner: int, told: list[int]) -> None:
    """Until the command ends, the owner is gone, or the guard was told to end."""
    while not told and os.getppid() == owner and child.poll() is None:
        readable, _, _ = select.select([0], [], [], POLL_SECONDS)
        if readable and not os.read(0, 1):
            return


def main(argv: list[str]) -> int:
    """Run argv[2:] under the guard; its exit code, or 128 and the signal's number."""
    owner, grace, command = int(argv[0]), float(argv[1]), argv[2:]
    told: list[int] = []

    def tell(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, tell)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_in_child
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_RUN
    _watch(child, owner, told)
    code = child.poll()
    _end(identify(child.pid) if code is None else None, grace)
    code = child.poll() if code is None else code
    return 0 if code is None else code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
