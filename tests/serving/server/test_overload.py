"""A full queue, deadlines, and clients that leave."""

import random
import threading
from collections.abc import Callable

import httpx
from fake_engine import expected_text
from server_harness import Server, eventually, request_bytes

StartServer = Callable[..., Server]


def _running(server: Server) -> int:
    load = server.get("/load").json()
    return load["num_requests_running"] + load["num_requests_waiting"]


def test_a_full_queue_answers_503_and_serves_on(start_server: StartServer) -> None:
    server = start_server({"max_num_seqs": 1}, max_queued_requests=2)
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(server.complete("slow", 40)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: server.get("/load").json()["server_load"] == 3)
    for stream in (False, True):
        refused = server.complete("hi", 1, stream=stream)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "overloaded"
    assert server.get("/ready").status_code == 200
    for thread in threads:
        thread.join()
    assert [a.json()["choices"][0]["text"] for a in answers] == [expected_text("slow", 40)] * 3
    assert server.complete("hi", 2).is_success
    assert 'reason="queue_full"} 2.0' in server.get("/metrics").text


def test_a_deadline_ends_a_request_wherever_it_is(start_server: StartServer) -> None:
    server = start_server({"max_num_seqs": 1})
    holder = threading.Thread(target=lambda: server.complete("slow", 100))
    holder.start()
    eventually(lambda: _running(server) == 1)
    waiting = server.complete("hi", 1, timeout=0.1)
    assert waiting.status_code == 504
    assert waiting.json()["error"]["code"] == "deadline_exceeded"
    holder.join()
    body = {"prompt": "slow", "max_tokens": 400}
    running = server.post("/v1/completions", body, headers={"X-Request-Timeout": "0.2"})
    assert running.status_code == 504
    streamed = server.complete("slow", 400, stream=True, timeout=0.3).text
    assert '"code":"deadline_exceeded"' in streamed
    assert streamed.endswith("data: [DONE]\n\n")
    eventually(lambda: _running(server) == 0)


def test_the_servers_own_deadline(start_server: StartServer) -> None:
    server = start_server(request_timeout=0.2)
    assert server.complete("slow", 400).status_code == 504
    assert server.complete("hi", 2).is_success


def test_leaving_cancels_in_the_engine(start_server: StartServer) -> None:
    server = start_server({"max_num_seqs": 2})
    for stream in ("true", "false"):
        for n in (1, 3):
            body = f'{{"prompt": "slow", "max_tokens": 500, "n": {n}, "stream": {stream}}}'
            with server.connect() as sock:
                sock.sendall(request_bytes("/v1/completions", body.encode()))
                eventually(lambda n=n: _running(server) == min(n, 2))
                if stream == "true":
                    assert sock.recv(64).startswith(b"HTTP/1.1 200")
            eventually(lambda: _running(server) == 0)
            eventually(lambda: server.get("/load").json()["server_load"] == 0)
    assert server.complete("hi", 2).is_success
    assert 'finished_reason="abort"' in server.get("/metrics").text


def test_leaving_at_any_moment_leaves_nothing_behind(start_server: StartServer) -> None:
    server = start_server({"max_num_seqs": 4})
    rng = random.Random(7)
    held = []
    for case in range(200):
        fields = f'"n": {rng.choice((1, 1, 3))}, "stream": {rng.choice(("true", "false"))}'
        body = f'{{"prompt": "leave {case}", "max_tokens": 400, {fields}}}'.encode()
        sock = server.connect()
        sock.sendall(request_bytes("/v1/completions", body)[: rng.choice((40, 10**6, 10**6))])
        held.append(sock)
        while len(held) > rng.randrange(8):
            held.pop(rng.randrange(len(held))).close()
    for sock in held:
        sock.close()
    eventually(lambda: server.get("/load").json()["server_load"] == 0)
    eventually(lambda: _running(server) == 0)
    assert server.complete("hello", 9).json()["choices"][0]["text"] == expected_text("hello", 9)
    assert "Traceback" not in server.stderr()


def test_leaving_while_queued_cancels(start_server: StartServer) -> None:
    server = start_server({"max_num_seqs": 1})
    holder = threading.Thread(target=lambda: server.complete("slow", 60))
    holder.start()
    eventually(lambda: _running(server) == 1)
    with server.connect() as sock:
        sock.sendall(request_bytes("/v1/completions", b'{"prompt": "queued"}'))
        eventually(lambda: _running(server) == 2)
    eventually(lambda: _running(server) == 1)
    holder.join()
