"""Real servers: start, ready, ask, stop, and nothing left, whatever happens to the owner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sixfold.core.errors import ConfigError, SixfoldError
from sixfold.instrument.backends import backend, base, processes
from sixfold.instrument.backends.scrape import canonical, histogram
from sixfold.instrument.backends.spec import EngineSpec

TINY = str(Path(__file__).parents[2] / "golden" / "tiny" / "llama")
PATIENCE = 60.0

SERVER = """
import http.server, os, signal, subprocess, sys, time
mode, port = sys.argv[1], int(sys.argv[2])
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
sleep = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); "
         "print('child ready', flush=True); time.sleep(600)"]
for _ in range(2):
    subprocess.Popen(sleep, start_new_session=True, stdout=subprocess.PIPE).stdout.readline()
if mode == "orphans" and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def script(tmp_path: Path, mode: str) -> EngineSpec:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return EngineSpec(
        engine="command", start_command=f"{sys.executable} {path} {mode} {{port}} {{args}}"
    )


def gone(pids: tuple[int, ...]) -> bool:
    return all(processes.identify(pid) is None for pid in pids)


def test_our_server(tmp_path: Path) -> None:
    flags = {"executor": "reference", "max_num_seqs": 2, "enable_prefix_caching": True}
    running = base.start(
        EngineSpec(engine="sixfold", model=TINY, flags=flags), log_dir=tmp_path, timeout=PATIENCE
    )
    try:
        assert running.pids and running.seconds > 0
        assert "serve" in running.command and "--max-num-seqs 2" in running.command
        assert base.ask_version(running)
        assert base.reset_cache(running)
        page = base.read_metrics(running)
        assert page is not None and page.malformed == 0
        values = canonical(page, backend("sixfold").aliases)
        assert values["num_requests_running"] == values["generation_tokens"] == 0
        assert set(values) >= {"kv_cache_usage", "prefix_cache_hits", "num_preemptions"}
        found = histogram(page, "vllm:time_to_first_token_seconds")
        assert found is not None and found.count == 0
        attached = base.start(
            EngineSpec(engine="openai", executable=running.url), log_dir=tmp_path, timeout=PATIENCE
        )
        assert attached.guard is None and attached.pids == ()
        base.stop(attached)
        assert not gone(running.pids)
    finally:
        base.stop(running)
    assert gone(running.pids)
    base.stop(running)


def test_engine_that_rejects_its_model(tmp_path: Path) -> None:
    spec = EngineSpec(engine="sixfold", model=str(tmp_path / "nothing"))
    with pytest.raises(base.StartFailure) as caught:
        base.start(spec, log_dir=tmp_path, timeout=PATIENCE)
    assert caught.value.status == "did_not_start"
    assert "nothing" in caught.value.tail and caught.value.hint


@pytest.mark.parametrize("mode", ["plain", "orphans", "deaf"])
def test_whole_tree_ends(tmp_path: Path, mode: str) -> None:
    running = base.start(script(tmp_path, mode), log_dir=tmp_path, timeout=PATIENCE, grace=0.5)
    assert len(running.pids) >= (4 if mode == "orphans" else 3)
    base.stop(running, grace=0.5)
    assert gone(running.pids)


def test_server_that_never_answers(tmp_path: Path) -> None:
    heard: list[float] = []
    command = f"{sys.executable} -c 'import time; print(1, flush=True); time.sleep(600)' {{port}}"
    with pytest.raises(base.StartFailure) as caught:
        base.start(
            EngineSpec(engine="command", start_command=command),
            log_dir=tmp_path,
            timeout=2.0,
            progress=lambda seconds, _line: heard.append(seconds),
        )
    assert caught.value.status == "timed_out"
    assert heard and not processes.descendants(os.getpid())


def test_command_that_is_not_there(tmp_path: Path) -> None:
    spec = EngineSpec(engine="command", start_command="no-such-program {port}")
    with pytest.raises(base.StartFailure, match="no-such-program"):
        base.start(spec, log_dir=tmp_path, timeout=PATIENCE)


def test_detached_server_and_its_stop_command(tmp_path: Path) -> None:
    """A start command that returns: its server is elsewhere (here: a test's own child)."""
    inner = base.start(script(tmp_path, "plain"), log_dir=tmp_path, timeout=PATIENCE, grace=0.5)
    mark = tmp_path / "stopped"
    base.stop(inner, grace=0.5)
    path = tmp_path / "server.py"
    with subprocess.Popen([sys.executable, str(path), "plain", str(inner.spec.port)]) as outside:
        mine = (outside.pid,)
        spec = EngineSpec(
            engine="command",
            start_command="true {port}",
            stop_command=f"touch '{mark}'",
            port=inner.spec.port + 0,
        )
        try:
            eventually(lambda: len(processes.descendants(outside.pid)) == 2)
            children = processes.descendants(outside.pid)
            eventually(lambda: _taken(spec))
            with pytest.raises(ConfigError, match="not free"):
                base.start(spec, log_dir=tmp_path, timeout=PATIENCE)
        finally:
            processes.send(processes.descendants(outside.pid), signal.SIGKILL)
            outside.kill()
    assert gone((*mine, *(c.pid for c in children)))
    running = base.Running(spec, inner.url, (), "", None, 0.0, None)
    base.stop(running)
    assert mark.exists()
    with pytest.raises(SixfoldError, match="stop command ended with 1"):
        base.stop(msgspec_replace(running, stop_command="false"))


def _taken(spec: EngineSpec) -> bool:
    try:
        base._with_port(spec)
    except ConfigError:
        return True
    return False


def msgspec_replace(running: base.Running, **changes: str) -> base.Running:
    spec = msgspec.structs.replace(running.spec, **changes)
    return base.Running(spec, running.url, (), "", None, 0.0, None)


OWNER = """
import sys, time
from pathlib import Path
from sixfold.instrument.backends import base, processes
from sixfold.instrument.backends.spec import EngineSpec
spec = EngineSpec(engine="command", start_command=sys.argv[1])
running = base.start(spec, log_dir=Path(sys.argv[2]), timeout=60, grace=0.5)
print(running.guard.pid, *running.pids, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["owner", "guard"])
def test_killed_without_warning(tmp_path: Path, victim: str) -> None:
    """kill -9 of the owner ends everything; of the guard, the command itself."""
    spec = script(tmp_path, "orphans")
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, spec.start_command, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    guard, *pids = map(int, owner.stdout.readline().split())
    everything = [p for p in map(processes.identify, (guard, *pids)) if p is not None]
    assert len(everything) >= 5
    try:
        os.kill(owner.pid if victim == "owner" else guard, signal.SIGKILL)
        ends = (guard, *pids) if victim == "owner" else (guard, pids[0])
        eventually(lambda: gone(ends))
    finally:
        processes.send(everything, signal.SIGKILL)
        owner.kill()
        owner.wait()
        owner.stdout.close()
