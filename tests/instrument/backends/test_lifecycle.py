"""Real servers: start, ready, ask, stop, and nothing left, whatever happens to the owner."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sixfold.core.errors import ConfigError, SixfoldError
from sixfold.instrument.backends import backend, base, processes
from sixfold.instrument.backends.scrape import canonical, delta, histogram
from sixfold.instrument.backends.spec import EngineSpec

TINY = Path(__file__).parents[2] / "golden" / "tiny" / "llama"
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


def tiny_model(path: Path) -> str:
    """The tiny checkpoint, with a tokenizer of one token for each byte."""
    model = path / "model"
    shutil.copytree(TINY, model)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(model / "tokenizer.json"))
    return str(model)


def readings(running: base.Running) -> dict[str, float]:
    page = base.read_metrics(running)
    assert page is not None and page.malformed == 0
    return canonical(page, backend(running.spec.engine).aliases)


def test_our_server(tmp_path: Path) -> None:
    flags = {"executor": "reference", "max_num_seqs": 2, "enable_prefix_caching": True}
    spec = EngineSpec(
        engine="sixfold",
        model=tiny_model(tmp_path),
        flags=flags,
        env={"SIXFOLD_HOME": str(tmp_path / "home")},
    )
    running = base.start(spec, log_dir=tmp_path, timeout=PATIENCE)
    try:
        assert len(running.pids) >= 2 and running.seconds > 0
        assert "serve" in running.command and "--max-num-seqs 2" in running.command
        assert base.was_tested(backend("sixfold"), base.ask_version(running))
        before = readings(running)
        body = {"prompt": [5] * 40, "max_tokens": 3, "ignore_eos": True}
        url = f"{running.url}/v1/completions"
        assert httpx.post(url, json=body, timeout=PATIENCE).status_code == 200
        grown = delta(before, readings(running))
        assert (grown["prompt_tokens"], grown["generation_tokens"]) == (40, 3)
        assert set(grown) >= {"kv_cache_usage", "prefix_cache_hits", "num_preemptions"}
        assert base.reset_cache(running)
        page = base.read_metrics(running)
        found = histogram(page, "vllm:time_to_first_token_seconds") if page else None
        assert found is not None and found.count == 1 == max(found.buckets.values())
        attached = base.start(
            EngineSpec(engine="openai", executable=running.url), log_dir=tmp_path, timeout=PATIENCE
        )
        assert attached.guard is None and attached.pids == ()
        assert readings(attached)["generation_tokens"] == 3
        base.stop(attached)
        assert not gone(running.pids)
    finally:
        base.stop(running)
    assert gone(running.pids)
    base.stop(running)
    assert base.read_metrics(running) is None and base.ask_version(running) == ""


def test_engine_that_rejects_its_model(tmp_path: Path) -> None:
    spec = EngineSpec(engine="sixfold", model=str(tmp_path / "nothing"))
    with pytest.raises(base.StartFailure) as caught:
        base.start(spec, log_dir=tmp_path, timeout=PATIENCE)
    assert caught.value.status == "did_not_start"
    assert "nothing" in caught.value.reason and "log" not in caught.value.hint


@pytest.mark.parametrize("mode", ["plain", "orphans", "deaf"])
def test_whole_tree_ends(tmp_path: Path, mode: str) -> None:
    running = base.start(script(tmp_path, mode), log_dir=tmp_path, timeout=PATIENCE, grace=0.5)
    assert len(running.pids) >= (4 if mode == "orphans" else 3)
    base.stop(running, grace=0.5)
    assert gone(running.pids)


def test_server_that_never_answers(tmp_path: Path) -> None:
    heard: list[float] = []
    before = set(processes.descendants(os.getpid()))
    command = f"{sys.executable} -c 'import time; print(1, flush=True); time.sleep(600)' {{port}}"
    with pytest.raises(base.StartFailure) as caught:
        base.start(
            EngineSpec(engine="command", start_command=command),
            log_dir=tmp_path,
            timeout=2.0,
            progress=lambda seconds, _line: heard.append(seconds),
        )
    assert caught.value.status == "timed_out"
    assert heard and set(processes.descendants(os.getpid())) <= before


def test_command_that_is_not_there(tmp_path: Path) -> None:
    spec = EngineSpec(engine="command", start_command="no-such-program {port}")
    with pytest.raises(base.StartFailure, match="no-such-program"):
        base.start(spec, log_dir=tmp_path, timeout=PATIENCE)


def test_detached_server_and_its_stop_command(tmp_path: Path) -> None:
    """A start command that returns: its server runs elsewhere (here: as the test's child)."""
    port = base.free_port()
    server = script(tmp_path, "plain").start_command.format(port=port, args="")
    mark = tmp_path / "stopped"
    spec = EngineSpec(
        engine="command", start_command="true {port}", stop_command=f"touch '{mark}'", port=port
    )
    outside: list[subprocess.Popen[bytes]] = []

    def progress(_seconds: float, _line: str) -> None:
        if not outside:
            outside.append(subprocess.Popen(server.split()))

    try:
        running = base.start(spec, log_dir=tmp_path, timeout=PATIENCE, progress=progress)
        with pytest.raises(ConfigError, match="not free"):
            base.start(spec, log_dir=tmp_path, timeout=PATIENCE)
        base.stop(running)
        assert mark.exists()
        failing = msgspec.structs.replace(spec, stop_command="false")
        with pytest.raises(SixfoldError, match="stop command ended with 1"):
            base.stop(dataclasses.replace(running, spec=failing))
    finally:
        for process in outside:
            processes.send(processes.descendants(process.pid), signal.SIGKILL)
            process.kill()
            process.wait()


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


def test_stop_after_the_guard_was_killed(tmp_path: Path) -> None:
    """Orphans that nobody adopted are still known by pid and start time."""
    running = base.start(script(tmp_path, "orphans"), log_dir=tmp_path, timeout=PATIENCE)
    assert running.guard is not None
    running.guard.kill()
    running.guard.wait()
    base.stop(running)
    assert gone(running.pids)


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
