"""Engines that fail, hang or die: explicit errors, a truthful /ready, and a new engine."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_engine import expected_text
from server_harness import Server, alive, events, eventually

from sixfold.serving.server.supervisor import STEP_ASIDE

StartServer = Callable[..., Server]


def _serves(server: Server) -> bool:
    answer = server.complete("hello", 4)
    return answer.is_success and answer.json()["choices"][0]["text"] == expected_text("hello", 4)


def test_a_request_that_breaks_add_breaks_itself_only(start_server: StartServer) -> None:
    server = start_server()
    (engine,) = server.engine_pids()
    answers = []
    other = threading.Thread(target=lambda: answers.append(server.complete("slow", 50)))
    other.start()
    broken = server.complete("raise-add", 4)
    assert broken.status_code == 500
    assert broken.json()["error"]["message"] == "the engine failed on this request"
    other.join()
    assert answers[0].json()["choices"][0]["text"] == expected_text("slow", 50)
    assert server.engine_pids() == [engine]


def test_a_failing_step_ends_what_is_in_flight(start_server: StartServer) -> None:
    server = start_server()
    (engine,) = server.engine_pids()
    broken = server.complete("raise-step", 4)
    assert broken.status_code == 500
    assert "step failed" in broken.json()["error"]["message"]
    assert _serves(server)
    assert server.engine_pids() == [engine]


def test_an_engine_that_keeps_failing_is_restarted(start_server: StartServer) -> None:
    server = start_server()
    (engine,) = server.engine_pids()
    codes = [server.complete("raise-step", 4).status_code for _ in range(3)]
    assert codes[:2] == [500, 500]
    assert codes[2] in (500, 503)
    eventually(lambda: not alive(engine))
    eventually(server.ready)
    assert _serves(server)
    assert server.engine_pids() != [engine]


def test_the_api_steps_aside_for_every_engine(start_server: StartServer) -> None:
    """Also for one that was started by a thread that had long been nice."""
    server = start_server()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    (engine,) = server.engine_pids()
    assert os.getpriority(os.PRIO_PROCESS, engine) == own
    assert os.getpriority(os.PRIO_PROCESS, server.process.pid) == min(19, own + STEP_ASIDE)
    os.kill(engine, signal.SIGKILL)
    eventually(lambda: not alive(engine))
    eventually(server.ready)
    (engine,) = server.engine_pids()
    assert os.getpriority(os.PRIO_PROCESS, engine) == own


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killing_the_engine_mid_stream(start_server: StartServer, number: int) -> None:
    server = start_server()
    (engine,) = server.engine_pids()
    body = {"prompt": "slow", "max_tokens": 500, "stream": True}
    with server.client() as client, client.stream("POST", "/v1/completions", json=body) as answer:
        got = events(answer.iter_lines())
        assert "choices" in next(got)
        os.kill(engine, number)
        rest = list(got)
    # The stream's end comes before the engine is back: /ready says so meanwhile.
    assert server.get("/ready").status_code == 503
    assert server.get("/health").status_code == 200
    refused = server.complete("hi", 1)
    assert refused.status_code == 503
    assert rest[-1] == "[DONE]"
    assert rest[-2]["error"]["code"] == "engine_dead"
    eventually(server.ready)
    assert _serves(server)
    (restarted,) = server.engine_pids()
    assert restarted != engine
    assert 'sixfold:engine_restarts_total{model_name="fake"} 1.0' in server.get("/metrics").text


def test_a_request_that_kills_the_engine_is_answered_503(start_server: StartServer) -> None:
    server = start_server()
    assert server.complete("kill", 4).status_code == 503
    eventually(server.ready)
    assert _serves(server)


def test_a_hanging_step_is_ended_by_the_watchdog(start_server: StartServer) -> None:
    server = start_server(engine_hang_timeout=0.8)
    (engine,) = server.engine_pids()
    assert server.complete("hang", 4).status_code == 503
    eventually(lambda: not alive(engine))
    eventually(server.ready)
    assert _serves(server)


def test_a_stopped_engine_is_found_even_when_idle(start_server: StartServer) -> None:
    server = start_server(engine_hang_timeout=0.8)
    (engine,) = server.engine_pids()
    os.kill(engine, signal.SIGSTOP)
    eventually(lambda: not alive(engine))
    eventually(server.ready)
    assert _serves(server)


def test_engine_counters_never_fall(start_server: StartServer) -> None:
    server = start_server()
    server.complete("hello", 40)
    before = _counter(server, "vllm:generation_tokens_total")
    server.complete("kill", 1)
    eventually(server.ready)
    server.complete("hello", 3)
    assert _counter(server, "vllm:generation_tokens_total") == before + 3 == 43


def _counter(server: Server, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + "{")).split()[-1])


def test_a_model_that_is_not_there(start_server: StartServer) -> None:
    server = start_server({"model": "no-such-model"})
    assert server.wait() == 2
    assert server.banner == ""
    assert "there is no model no-such-model\nhint: try another one" in server.stderr()


def test_an_engine_that_never_starts_is_given_up(start_server: StartServer) -> None:
    server = start_server({"model": "dies-at-start"})
    assert server.wait() == 2
    assert "died at every start" in server.stderr()


def test_the_engine_ends_with_its_server(start_server: StartServer) -> None:
    for prompt in ("hello", "hang"):
        server = start_server()
        (engine,) = server.engine_pids()
        if prompt == "hang":
            threading.Thread(target=_ignore_errors, args=(server,), daemon=True).start()
            eventually(lambda server=server: server.get("/load").json()["server_load"] == 1)
        server.process.kill()
        eventually(lambda engine=engine: not alive(engine))


def _ignore_errors(server: Server) -> None:
    try:
        server.complete("hang", 1)
    except Exception:
        return


def test_one_listener_and_a_private_socket(start_server: StartServer) -> None:
    """A default start opens one TCP listener, on 127.0.0.1, and a socket in a 0700 directory."""
    server = start_server()
    inodes = set()
    for pid in (server.process.pid, *server.engine_pids()):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    lines += Path("/proc/net/tcp6").read_text().splitlines()[1:]
    listening = [f[1] for f in map(str.split, lines) if f[3] == "0A" and f[9] in inodes]
    assert listening == [f"0100007F:{server.port:04X}"]
    unix = Path("/proc/net/unix").read_text().splitlines()[1:]
    paths = {f[7] for f in map(str.split, unix) if f[6] in inodes and len(f) > 7}
    (socket_path,) = paths
    assert Path(socket_path).parent.stat().st_mode & 0o777 == 0o700
    assert server.stop() == 0
    assert not Path(socket_path).parent.exists()


def test_an_idle_server_uses_next_to_no_processor_time(start_server: StartServer) -> None:
    server = start_server()
    assert _serves(server)
    pids = [server.process.pid, *server.engine_pids()]
    before = sum(map(_ticks, pids))
    threading.Event().wait(1.5)
    assert sum(map(_ticks, pids)) - before <= 2  # of 150: 1.3 %, clock ticks being what they are


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
