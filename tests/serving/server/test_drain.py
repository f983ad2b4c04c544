"""SIGTERM: what runs finishes, what is new is turned away, the exit code tells how it went."""

import signal
import threading
from collections.abc import Callable

import httpx
import pytest
from fake_engine import expected_text
from server_harness import Server, alive, eventually

StartServer = Callable[..., Server]


def _in_flight(server: Server, prompt: str, max_tokens: int, **fields: bool) -> tuple:
    """A request in a thread, once the engine works on it."""
    answers: list[httpx.Response] = []

    def run() -> None:
        try:
            answers.append(server.complete(prompt, max_tokens, **fields))
        except httpx.HTTPError:
            return

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: server.get("/load").json()["num_requests_running"] == 1)
    return thread, answers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_flight_finishes_and_new_is_refused(start_server: StartServer, number: int) -> None:
    server = start_server()
    engines = server.engine_pids()
    thread, answers = _in_flight(server, "slow", 60)
    kept = server.client()
    assert kept.get("/health").is_success
    server.process.send_signal(number)
    eventually(lambda: kept.get("/ready").status_code == 503)
    refused = kept.post("/v1/completions", json={"prompt": "x"})
    assert refused.status_code == 503
    assert refused.headers["connection"] == "close"
    assert "retry-after" in refused.headers
    assert kept.get("/health").is_success
    thread.join()
    kept.close()
    assert answers[0].json()["choices"][0]["text"] == expected_text("slow", 60)
    assert server.wait() == 0
    assert not any(map(alive, engines))


def test_a_stream_finishes_too(start_server: StartServer) -> None:
    server = start_server()
    thread, answers = _in_flight(server, "slow", 40, stream=True)
    server.process.send_signal(signal.SIGTERM)
    thread.join()
    assert answers[0].text.endswith("data: [DONE]\n\n")
    assert '"finish_reason":"length"' in answers[0].text
    assert server.wait() == 0


def test_an_idle_server_ends_at_once(start_server: StartServer) -> None:
    assert start_server().stop() == 0


def test_the_drain_has_an_end(start_server: StartServer) -> None:
    server = start_server(drain_timeout=0.2)
    thread, answers = _in_flight(server, "slow", 400, stream=True)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 1
    thread.join()
    assert '"code":"engine_dead"' in answers[0].text
    assert answers[0].text.endswith("data: [DONE]\n\n")


def test_a_second_signal_ends_at_once(start_server: StartServer) -> None:
    server = start_server()
    engines = server.engine_pids()
    thread, answers = _in_flight(server, "slow", 490)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: server.get("/ready").status_code == 503)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 1
    thread.join()
    assert answers == []
    eventually(lambda: not any(map(alive, engines)))
