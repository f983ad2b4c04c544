"""Recordings that end: by their limits, with requests in flight, with a disk that is full."""

import asyncio
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from instrument.recorder.upstream import (
    PATIENCE,
    Asked,
    Recorded,
    Upstream,
    completion,
    post,
    received,
    received_with,
    says,
    whole,
)
from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder import run
from sixfold.instrument.recorder.held import Exchange
from sixfold.instrument.recorder.proxy import Proxy, ProxyConfig
from sixfold.instrument.recorder.run import Recording, record
from sixfold.instrument.recorder.trace_file import TraceWriter, new_header

BODY = b'{"prompt": "hello"}'
OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def test_a_request_in_flight_is_cut_and_noted():
    async def main(url: str) -> tuple[list[Exchange], bytes]:
        taken: list[Exchange] = []
        proxy = Proxy(ProxyConfig(upstream=url, port=0), taken.append)
        await proxy.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.split(":")[2]))
        writer.write(post(BODY))
        await reader.readuntil(b"one")
        await proxy.close(grace=0.0)
        rest = await reader.read()
        writer.close()
        return taken, rest

    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(OPEN + b"data: one\n\n")
        sock.recv(1)
        return False

    with Upstream(script) as upstream:
        (exchange,), rest = asyncio.run(main(upstream.url))
    assert exchange.error == "recorder_stopped" and exchange.status == 200
    assert b"0\r\n\r\n" not in rest, "nobody takes it for whole"


def test_a_request_in_flight_may_end(tmp_path):
    go_on = threading.Event()

    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(OPEN + b'data: {"choices": [{"text": "one"}]}\n\n')
        assert go_on.wait(PATIENCE)
        sock.sendall(b"data: [DONE]\n\n")
        return False

    with (
        Upstream(script) as upstream,
        Recorded(upstream.url, tmp_path / "t.jsonl") as recorded,
        recorded.connect() as sock,
    ):
        sock.sendall(post(BODY))
        received_with(sock, b"one")
        recorded.stop()
        go_on.set()
        assert b"[DONE]" in received(sock)
    assert recorded.entries[0].outcome.error == ""


def test_it_ends_after_so_many_requests(tmp_path):
    with Upstream(says(whole(completion()))) as upstream:
        config = ProxyConfig(upstream=upstream.url, port=0)
        recording = Recording(proxy=config, output=str(tmp_path / "t"), max_requests=3)

        def ready(url: str) -> None:
            threading.Thread(target=ask_on, args=(int(url.rpartition(":")[2]),)).start()

        def ask_on(port: int) -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
                sock.sendall(post(BODY) * 5)
                received(sock)

        assert asyncio.run(record(recording, ready, asyncio.Event())) == 3


def test_a_disk_that_is_full_ends_it_with_an_error(tmp_path, monkeypatch):
    path = tmp_path / "t.jsonl"

    def full(self: TraceWriter, entry: object) -> None:
        raise ConfigError(f"can't write {path}: No space left on device", "check its disk")

    monkeypatch.setattr(TraceWriter, "write", full)
    with Upstream(says(whole(completion()))) as upstream:
        recording = Recording(proxy=ProxyConfig(upstream=upstream.url, port=0), output=str(path))

        def ready(url: str) -> None:
            threading.Thread(target=ask, args=(int(url.rpartition(":")[2]),)).start()

        def ask(port: int) -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
                sock.sendall(post(BODY, "/v1/completions", "Connection: close"))
                assert b"hello there" in received(sock), "the client is served all the same"

        with pytest.raises(ConfigError, match="No space"):
            asyncio.run(record(recording, ready, asyncio.Event()))
    assert path.exists()
    if Path("/dev/full").exists():
        with pytest.raises(ConfigError, match="No space"):
            TraceWriter(Path("/dev/full"), new_header(datetime.now(UTC)), append=True)


def test_what_waits_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "MAX_PENDING", 10)
    with (
        Upstream(says(whole(completion()))) as upstream,
        Recorded(upstream.url, tmp_path / "t.jsonl", keep_text=True) as recorded,
        recorded.connect() as sock,
    ):
        sock.sendall(post(BODY, "/v1/completions", "Connection: close"))
        received(sock)
    (entry,) = recorded.entries
    assert entry.request_bytes == len(BODY) and not entry.prompt and entry.outcome.status == 200
