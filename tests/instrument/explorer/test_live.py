"""The live page's server on real sockets, while another process appends to the store."""

import http.client
import json
import multiprocessing
import socket
import time
from pathlib import Path

import pytest

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.explorer import live
from sixfold.instrument.explorer.live import LiveServer
from sixfold.instrument.store.follow import is_under_way, points_after, under_way
from sixfold.instrument.store.store import Store


def point(number: int, **changes: object) -> Point:
    fields = {
        "id": f"p{number}",
        "date": "2026-01-01T00:00:00Z",
        "engine": "sixfold",
        "model": "m",
        "load": {"concurrency": number + 1},
        "values": {"ttft:p95": 0.1 * (number + 1), "output_throughput": 10.0 + number},
    }
    return Point(**(fields | changes))


def append_slowly(path: Path, first: int, count: int, pause: float) -> None:
    """A run: what a tuner's process does to its store."""
    with Store(path) as store, under_way(path):
        for number in range(first, first + count):
            store.append([point(number)])
            time.sleep(pause)


def writer(path: Path, first: int, count: int, pause: float) -> multiprocessing.Process:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=append_slowly, args=(path, first, count, pause))
    process.start()
    return process


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "odd #?%20 name.db"
    with Store(path) as opened:
        opened.append([point(0)])
    return path


def get(server: LiveServer, path: str, host: str = "", method: str = "GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.port}"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_points_arrive_while_another_process_appends(store):
    with LiveServer(store, "t") as server:
        process = writer(store, 1, 40, 0.02)
        seen, after, states = [], 0, []
        end = time.monotonic() + 30
        while len(seen) < 41 and time.monotonic() < end:
            answer = json.loads(get(server, f"/points?after={after}")[1])
            seen += [p["id"] for p in answer["points"]]
            states.append(answer["running"])
            after = answer["next"]
        process.join(30)
        assert process.exitcode == 0, "a reader disturbed the writer"
        assert seen == [f"p{n}" for n in range(41)]
        assert True in states
        last = json.loads(get(server, f"/points?after={after}")[1])
        assert last == {"points": [], "next": after, "more": False, "running": False}


def test_a_reader_leaves_no_snapshot_behind(store):
    points_after(store, 0, 10)
    with Store(store) as opened:
        opened.append([point(1)])
        points_after(store, 0, 1)
        busy, _, _ = opened._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0
    assert [p.id for _, p in points_after(store, 0, 10)] == ["p0", "p1"]


def test_a_killed_run_is_not_under_way(store):
    assert not is_under_way(store)
    process = writer(store, 1, 1, 60)
    end = time.monotonic() + 20
    while not is_under_way(store):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not is_under_way(store)
    with under_way(store), under_way(store):
        assert is_under_way(store)
    assert not is_under_way(store) and not list(store.parent.glob("*.running"))


def test_many_points_come_in_parts(store, monkeypatch):
    monkeypatch.setattr(live, "MOST_POINTS", 3)
    with Store(store) as opened:
        opened.append([point(n) for n in range(1, 7)])
    with LiveServer(store, "t", others=[point(0), point(99)]) as server:
        page = get(server, "/")[1].decode()
        assert '"live_after":3' in page and '"p99"' in page and page.count('"id":"p0"') == 1
        parts, after, more = [], 0, True
        while more:
            answer = json.loads(get(server, f"/points?after={after}")[1])
            parts.append(len(answer["points"]))
            after, more = answer["next"], answer["more"]
        assert parts == [3, 3, 1]


def test_the_page_may_ask_its_own_server_and_no_other(store):
    with LiveServer(store, "<t>") as server:
        response, body = get(server, "/")
        page = body.decode()
        assert response.status == 200 and "connect-src 'self'" in page and "&lt;t&gt;" in page
        assert "default-src 'none'" in page and "unsafe" not in page.partition("<style>")[0]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert "Access-Control-Allow-Origin" not in response.headers
        assert server.url == f"http://127.0.0.1:{server.port}/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "evil.example:{}"])
@pytest.mark.parametrize("path", ["/", "/points?after=0", "/other"])
def test_another_host_is_refused(store, host, path):
    with LiveServer(store, "t") as server:
        response, body = get(server, path, host.format(server.port))
        assert (response.status, body) == (403, b"Forbidden")
        assert get(server, path, f"localhost:{server.port}")[0].status != 403


def raw(server: LiveServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
    return answer


def test_two_hosts_or_none_are_refused(store):
    with LiveServer(store, "t") as server:
        host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
        for headers in (b"", host + b"Host: evil\r\n", host + host):
            answer = raw(server, b"GET / HTTP/1.1\r\n" + headers + b"\r\n")
            assert b" 403 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize(
    "path",
    ["/x", "/points", "/points?after=", "/points?after=-1", "/points?after=1e3", "//points",
     "/points?after=1&after=2", "/points?after=" + "9" * 30, "/?a=1", "/../etc/passwd",
     "/points?after=%D9%A1"],
)  # fmt: skip
def test_nothing_else_is_served(store, path):
    with LiveServer(store, "t") as server:
        response, body = get(server, path)
        assert (response.status, body) == (404, b"Not Found")


def test_other_methods_are_refused_without_an_echo(store):
    with LiveServer(store, "t") as server:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "<script>"):
            answer = raw(server, f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 501 " in answer.split(b"\r\n")[0] and b"<script>" not in answer


def test_connections_are_bounded(store, monkeypatch):
    monkeypatch.setattr(live, "MOST_CONNECTIONS", 2)
    with LiveServer(store, "t") as server:
        address = ("127.0.0.1", server.port)
        idle = [socket.create_connection(address, timeout=10) for _ in range(2)]
        time.sleep(0.3)
        with socket.create_connection(address, timeout=10) as third:
            assert third.recv(1) == b""
        for client in idle:
            client.close()
        time.sleep(0.3)
        assert get(server, "/")[0].status == 200


def test_a_store_that_goes_away_is_said(store):
    with LiveServer(store, "t") as server:
        store.unlink()
        assert get(server, "/points?after=0")[0].status == 503
        assert not store.exists(), "a reader made a store"


def test_what_is_no_store_is_refused_at_once(tmp_path):
    (tmp_path / "text").write_text("no store")
    for name in ("text", "absent"):
        with pytest.raises(ConfigError, match=name):
            LiveServer(tmp_path / name, "t")
    with Store(tmp_path / "s.db"):
        pass
    with LiveServer(tmp_path / "s.db", "t") as server, pytest.raises(ConfigError, match="listen"):
        LiveServer(tmp_path / "s.db", "t", server.port)


def ask(server: LiveServer) -> None:
    """As a page does; until the server has noted that the answer was sent."""
    get(server, "/points?after=0")
    time.sleep(0.2)


def test_the_end_of_a_run_waits_for_pages_that_look_and_no_longer(store):
    with LiveServer(store, "t") as server:
        began = time.monotonic()
        server.say_farewell()
        assert time.monotonic() - began < 0.5, "nobody looks"
        ask(server)  # before the run has begun
        with under_way(store):
            ask(server)
        began = time.monotonic()
        server.say_farewell()
        assert time.monotonic() - began > 1, "a page that looks is waited for"
        ask(server)
        ask(server)
        began = time.monotonic()
        server.say_farewell()
        assert time.monotonic() - began < 0.5, "the page has heard"
