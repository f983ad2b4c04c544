"""Start and stop servers for benchmarks: ours, or llama.cpp's by path. By pid, on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loadgen import Target

READY_SECONDS = 300.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def sixfold(model: str, flags: Sequence[str] = ()) -> Iterator[Target]:
    """`sixfold serve MODEL FLAGS` until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "sixfold", "serve", model, "--port", str(port), *flags]
    with _running(command, port, "/ready") as target:
        yield target


@contextmanager
def llama_server(
    binary: str, model: str, slots: int, context: int, flags: Sequence[str] = ()
) -> Iterator[Target]:
    """llama.cpp's server with `slots` parallel slots that share `context` tokens."""
    port = free_port()
    command = [
        binary, "-m", model, "--host", "127.0.0.1", "--port", str(port),
        "-t", str(os.cpu_count()), "-tb", str(os.cpu_count()), "-np", str(slots),
        "-c", str(context), "--no-kv-unified", "--no-webui", *flags,
    ]  # fmt: skip
    with _running(command, port, "/health") as target:
        yield target


@contextmanager
def _running(command: Sequence[str], port: int, path: str) -> Iterator[Target]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _await(process, f"http://127.0.0.1:{port}{path}")
        yield Target(port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], url: str) -> None:
    """Until the server answers; raises if it ends or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode} before ready")
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"{url} is not ready after {READY_SECONDS:.0f} s")
