"""Start and stop engines, wait until they serve, and ask them; on loopback, by pid, without shells.

A started server runs under guard.py, and so ends with this process, however this one ends. Not
here: engines' facts (a module each), load, what metrics mean (scrape.py).
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from sixfold.core.errors import ConfigError, SixfoldError
from sixfold.instrument.backends import backend, command, openai, processes, scrape
from sixfold.instrument.backends.fetch import fetch
from sixfold.instrument.backends.spec import (
    HOST,
    EngineKind,
    EngineSpec,
    Request,
    Symptom,
    shown_command,
    tested_words,
)

__all__ = [
    "EngineSpec",
    "Running",
    "StartFailure",
    "ask_version",
    "free_port",
    "read_metrics",
    "reset_cache",
    "start",
    "stop",
    "version_words",
    "was_tested",
]

READY_SECONDS = 600.0
GRACE_SECONDS = 20.0
"""From SIGTERM to SIGKILL."""
TAIL_LINES = 20
TAIL_BYTES = 64 << 10
POLL_SECONDS = 0.05

Progress = Callable[[float, str], None]
"""Called at once, and then about once a second: seconds so far, last line of the log."""

OUT_OF_MEMORY = Symptom(
    r"out of memory|OutOfMemory|MemoryError|std::bad_alloc|cannot allocate memory|"
    r"failed to allocate|ENOMEM",
    "out of memory",
    "use a smaller model, context or batch, or fewer bits",
    "out_of_memory",
)
PORT_TAKEN = Symptom(
    r"address already in use|errno 98", "the port is in use", "use port 0: a free one"
)


class StartFailure(SixfoldError):
    """A server that could not be started. `status` is a point's; `tail` the end of its log."""

    def __init__(
        self,
        status: Literal["did_not_start", "out_of_memory", "timed_out"],
        reason: str,
        hint: str = "",
        tail: str = "",
    ) -> None:
        super().__init__(reason, hint)
        self.status = status
        self.reason = reason
        self.tail = tail


@dataclass(frozen=True)
class Running:
    """A server that serves. Give it to stop()."""

    spec: EngineSpec
    """With the port that it got, and its scratch directory."""
    url: str
    tree: tuple[processes.Process, ...]
    """Its processes when it became ready, without the guard; none if it is not ours."""
    command: str
    """To paste into a shell."""
    log: Path | None
    seconds: float
    """From the start to ready."""
    guard: subprocess.Popen[bytes] | None
    scratch: Path | None = None
    """A directory that ends with it."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The pids of `tree`."""
        return tuple(p.pid for p in self.tree)


def start(
    spec: EngineSpec,
    *,
    log_dir: Path,
    timeout: float = READY_SECONDS,
    grace: float = GRACE_SECONDS,
    progress: Progress | None = None,
) -> Running:
    """Start the engine and wait until it serves, at most `timeout` seconds.

    Raises ConfigError for a spec that can't be started, StartFailure if the server ends or is not
    ready in time; then nothing of it is left.
    """
    engine = backend(spec.engine)
    spec = _with_port(spec)
    shown = shown_command(engine, spec)
    engine.argv(spec)  # what can't be started leaves nothing behind
    spec, scratch = _with_scratch(engine, spec)
    argv = engine.argv(spec)
    url = f"http://{HOST}:{spec.port}" if argv else openai.url_of(spec)
    log = _new_log(log_dir, spec) if argv else None
    began = time.monotonic()
    guard = _launch(engine, spec, argv, log, grace) if log is not None else None
    running = Running(spec, url, (), shown, log, 0.0, guard, scratch)
    try:
        _await_ready(running, engine, timeout, progress or (lambda _seconds, _line: None))
    except BaseException:
        stop(running, grace=grace)
        raise
    seconds = time.monotonic() - began
    tree = tuple(processes.descendants(guard.pid)) if guard is not None else ()
    return replace(running, tree=tree, seconds=seconds)


def stop(running: Running, *, grace: float = GRACE_SECONDS) -> None:
    """End the server and all it started: SIGTERM, SIGKILL after `grace` seconds, by pid.

    Harmless when it has ended. Raises SixfoldError if a process is left, or the spec's stop
    command fails.
    """
    failed = _run_stop_command(running.spec, grace)
    if running.guard is not None:
        _end_tree(running.guard, running.tree, grace)
    if running.scratch is not None:
        shutil.rmtree(running.scratch, ignore_errors=True)
    if failed:
        raise SixfoldError(failed, "stop the server by hand, and mend the stop command")


def _end_tree(
    guard: subprocess.Popen[bytes], known: tuple[processes.Process, ...], grace: float
) -> None:
    """Through the guard; what outlives it, or was orphaned because it was killed, by pid."""
    ours = [*known, *processes.descendants(guard.pid)]
    if guard.poll() is None:
        guard.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(grace + 5.0)
        if guard.poll() is None:
            ours += processes.descendants(guard.pid)
            guard.kill()
    guard.wait()
    assert guard.stdin is not None
    guard.stdin.close()
    processes.send(ours, signal.SIGKILL)
    left = processes.await_end(ours, 10.0)
    if left:
        pids = ", ".join(str(p.pid) for p in left)
        raise SixfoldError(f"processes {pids} do not end", "they may hang in the kernel")


def _run_stop_command(spec: EngineSpec, grace: float) -> str:
    """Empty, or how the stop command failed."""
    argv = command.stop_argv(spec) if spec.engine == "command" else []
    if not argv:
        return ""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=grace + 30.0, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the stop command failed: {error}"
    text = done.stderr.decode(errors="replace").strip()
    return f"the stop command ended with {done.returncode}: {text}" if done.returncode else ""


def reset_cache(running: Running) -> bool:
    """Drop the prefix cache; False if the engine has no way to, or refused: restart it."""
    engine = backend(running.spec.engine)
    answer = _told(running, engine.before_reset) if engine.before_reset is not None else None
    requests = engine.reset(running.spec, answer)
    return bool(requests) and all(_ask(running.url, r)[0] == 200 for r in requests)


def ask_version(running: Running) -> str:
    """The server's version as it tells it; empty if it does not."""
    query = backend(running.spec.engine).version
    if query is None:
        return ""
    answer = _told(running, Request("GET", query[0]))
    return str(answer.get(query[1], "")) if isinstance(answer, dict) else ""


def _told(running: Running, request: Request) -> Any:
    """The JSON that it answers; None if it does not."""
    status, body = _ask(running.url, request)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(body) if status == 200 else None
    return None


def was_tested(engine: EngineKind, version: str) -> bool:
    """True if the version lies in the range that was run with this engine's module."""
    if engine.tested is None or not re.match(r"\d", version):
        return False
    low, high = map(_numbers, engine.tested)
    return low <= _numbers(version)[: max(len(low), len(high))] <= high


def version_words(engine: EngineKind, version: str) -> str:
    """What to say of a version that runs: nothing, if it lies in the range that was tested."""
    tested = tested_words(engine)
    if not tested or was_tested(engine, version):
        return ""
    known = f"this is {engine.name} {version}" if version else f"{engine.name} tells no version"
    return f"{known}; {tested}"


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def read_metrics(running: Running) -> scrape.Scrape | None:
    """What its metrics page says now; None if it has none."""
    path = backend(running.spec.engine).metrics_path
    status, body = _ask(running.url, Request("GET", path))
    return scrape.parse(body) if status == 200 else None


def _ask(url: str, request: Request) -> tuple[int, bytes]:
    """As fetch, with status 0 where nobody answers."""
    try:
        return fetch(url, request, timeout=30.0)
    except OSError:
        return 0, b""


def free_port(port: int = 0) -> int:
    """A loopback port that is free just now: this one, or any. Raises ConfigError if taken."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, port))
        except OSError as error:
            text = f"port {port} is not free: {error.strerror}"
            raise ConfigError(text, "use port 0: a free one") from error
        return int(s.getsockname()[1])


def _with_port(spec: EngineSpec) -> EngineSpec:
    """The spec with a port; of a server that runs already, its own."""
    if spec.engine == "openai":
        return spec
    return msgspec.structs.replace(spec, port=free_port(spec.port))


def _with_scratch(engine: EngineKind, spec: EngineSpec) -> tuple[EngineSpec, Path | None]:
    """The spec with a directory of its own, where the engine wants one and has none."""
    given = {name.replace("-", "_") for name in spec.flags}
    if not engine.scratch or engine.scratch in given:
        return spec, None
    path = Path(tempfile.mkdtemp(prefix=f"sixfold-{engine.name}-"))
    flags = spec.flags | {engine.scratch: str(path)}
    return msgspec.structs.replace(spec, flags=flags), path


def _new_log(directory: Path, spec: EngineSpec) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(".log", f"{spec.engine}-{spec.port}-", directory)
    os.close(handle)
    return Path(path)


def _launch(
    engine: EngineKind, spec: EngineSpec, argv: list[str], log: Path, grace: float
) -> subprocess.Popen[bytes]:
    module = "sixfold.instrument.backends.guard"
    guarded = [sys.executable, "-m", module, str(os.getpid()), str(grace), *argv]
    environment = os.environ | dict(engine.env) | spec.env
    with log.open("ab") as out:
        return subprocess.Popen(
            guarded,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _await_ready(running: Running, engine: EngineKind, timeout: float, progress: Progress) -> None:
    request = Request("GET", running.spec.ready_path or engine.ready_path)
    began = time.monotonic()
    told = -1.0
    while (seconds := time.monotonic() - began) < timeout:
        code = running.guard.poll() if running.guard is not None else None
        if code is not None and not (code == 0 and running.spec.stop_command):
            raise explain(engine, code, read_tail(running.log))
        with contextlib.suppress(OSError):
            if fetch(running.url, request, timeout=2.0)[0] == 200:
                return
        if seconds - told >= 1.0:
            told = seconds
            progress(seconds, read_tail(running.log).rpartition("\n")[2])
        time.sleep(POLL_SECONDS)
    tail = read_tail(running.log)
    hint = "give it more time, or read its log" if running.log else "is it running?"
    raise StartFailure("timed_out", f"not ready after {timeout:.0f} s", hint, tail)


def read_tail(log: Path | None) -> str:
    """The last part of a log, at most TAIL_BYTES, without blank lines at its end."""
    if log is None:
        return ""
    with log.open("rb") as f:
        f.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return f.read(TAIL_BYTES).decode(errors="replace").rstrip()


def explain(engine: EngineKind, code: int, log: str) -> StartFailure:
    """Why a server with this exit code (128 + signal) and this end of its log did not start."""
    tail = "\n".join(log.splitlines()[-TAIL_LINES:])
    for symptom in (*engine.symptoms, OUT_OF_MEMORY, PORT_TAKEN):
        if re.search(symptom.pattern, log, re.IGNORECASE):
            return StartFailure(symptom.status, symptom.reason, symptom.hint, tail)
    if code == 128 + signal.SIGKILL:
        hint = "the kernel may have run out of memory: see its log, or use a smaller model"
        return StartFailure("out_of_memory", "it was killed", hint, tail)
    text, hint = _last_words(tail)
    reason = f"it ended with {code}: {text}" if text else f"it ended with {code}"
    return StartFailure("did_not_start", reason, hint or "read the end of its log", tail)


def _last_words(tail: str) -> tuple[str, str]:
    """The last line, and the hint if that is a line of its own, as our own errors have it."""
    lines = tail.splitlines() or [""]
    if lines[-1].startswith("hint: ") and len(lines) > 1:
        return lines[-2], lines[-1].removeprefix("hint: ")
    return lines[-1], ""
