"""The proxy over real sockets: what passes, what is refused, and what is noted of it."""

import contextlib
import gzip
import http.client
import json
import random
import socket
import ssl
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instrument.recorder.upstream import (
    PATIENCE,
    Asked,
    Recorded,
    Upstream,
    completion,
    eventually,
    post,
    received,
    received_with,
    says,
    whole,
)
from sixfold.core.errors import ConfigError
from sixfold.instrument.recorder.proxy import ProxyConfig

BODY = json.dumps({"model": "m", "prompt": "hello", "max_tokens": 4}).encode()
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = random.Random(1).randbytes(3 << 20)
CONNECTION_HEADERS = {"connection", "keep-alive", "transfer-encoding"}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(text: str, **more: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"text": text} | more]}).encode() + b"\n\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def ask(port: int, method: str = "POST", body: bytes | None = BODY, **headers: str):
    """(status, reason, headers that are not the connection's, body) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, "/v1/completions?a=b", body, headers)
        response = connection.getresponse()
        kept = [(k, v) for k, v in response.getheaders() if k.lower() not in CONNECTION_HEADERS]
        return response.status, response.reason, kept, response.read()
    finally:
        connection.close()


RESPONSES = {
    "json": whole(completion()),
    "error": whole(b'{"error": {"message": "no"}}', status="429 Slow Down"),
    "stream": STREAM + chunk(token("a")) + chunk(token("b") + b"data: [DONE]\n\n") + chunk(b""),
    "crumbs": STREAM + b"".join(chunk(bytes([b])) for b in token("abc")) + chunk(b""),
    "until close": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it",
    "old": b"HTTP/1.0 200 OK\r\nX-A: 1\r\nx-a: 2\r\n\r\nall of it",
    "empty": b"HTTP/1.1 204 No Content\r\nX-Request-Id: 7\r\n\r\n",
    "packed": whole(gzip.compress(completion(), mtime=0)).replace(
        b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1
    ),
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + whole(completion()),
    "big": whole(BIG, "application/octet-stream"),
    "big chunks": STREAM + b"".join(chunk(BIG[i : i + 50_000]) for i in range(0, len(BIG), 50_000))
    + chunk(b""),
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
def test_a_client_gets_the_same_with_and_without_the_proxy(name, trace):
    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(RESPONSES[name])
        return False

    with Upstream(script) as upstream, Recorded(upstream.url, trace) as recorded:
        more = {"Authorization": "Bearer k", "X-Odd": "a, b", "Accept-Encoding": "gzip"}
        direct = ask(upstream.port, **more)
        proxied = ask(recorded.port, **more)
        assert proxied == direct
        one, two = upstream.asked
        assert two.body == one.body == BODY and two.line == one.line
        assert two.headers.pop("host") == one.headers.pop("host").replace(
            str(recorded.port), str(upstream.port)
        )
        assert two.headers == one.headers
    (entry,) = recorded.entries
    assert entry.outcome.status == direct[0] and entry.endpoint == "/v1/completions"
    assert entry.response_bytes == len(direct[3]) and entry.request_bytes == len(BODY)


def test_bodies_of_every_size_arrive_whole_and_chunked_ones_too(trace):
    with Upstream(says(whole(b"{}"))) as upstream, Recorded(upstream.url, trace) as recorded:
        for size in (0, 1, 65_535, 65_536, 3 << 20):
            assert ask(recorded.port, body=BIG[:size])[0] == 200
            assert upstream.asked[-1].body == BIG[:size]
        connection = http.client.HTTPConnection("127.0.0.1", recorded.port, timeout=PATIENCE)
        pieces = iter([BIG[:10], BIG[10:100_000]])
        connection.request("POST", "/v1/completions", pieces, {"Expect": "100-continue"})
        assert connection.getresponse().status == 200
        connection.close()
        assert upstream.asked[-1].body == BIG[:100_000]
    assert [e.request_bytes for e in recorded.entries] == [0, 1, 65_535, 65_536, 3 << 20, 100_000]


def test_each_event_passes_before_the_next_is_made(trace):
    """The server waits for the client to have the event before: no buffer may stand between."""
    seen = threading.Semaphore(0)

    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(STREAM)
        for number in range(5):
            sock.sendall(chunk(token(f"t{number}")))
            assert seen.acquire(timeout=PATIENCE)
        sock.sendall(chunk(token("", finish_reason="stop") + b"data: [DONE]\n\n") + chunk(b""))
        return True

    with (
        Upstream(script) as upstream,
        Recorded(upstream.url, trace) as recorded,
        recorded.connect() as sock,
    ):
        sock.sendall(post(b'{"prompt": "a", "stream": true}'))
        for number in range(5):
            received_with(sock, f"t{number}".encode())
            seen.release()
        received_with(sock, b"0\r\n\r\n")
    (entry,) = recorded.entries
    assert entry.outcome.finish_reason == "stop" and not entry.outcome.error
    assert 0 < entry.outcome.ttft <= entry.outcome.e2e
    assert entry.output_tokens == 5 and entry.output_estimated and entry.sampling.stream


def test_connections_are_kept_on_both_sides(trace):
    with Upstream(says(whole(completion()))) as upstream, Recorded(upstream.url, trace) as recorded:
        connection = http.client.HTTPConnection("127.0.0.1", recorded.port, timeout=PATIENCE)
        for _ in range(3):
            connection.request("POST", "/v1/completions", BODY)
            assert connection.getresponse().read() == completion()
        connection.close()
        with recorded.connect() as sock:
            sock.sendall(post(BODY) + post(BODY, "/v1/completions", "Connection: close"))
            assert received(sock).count(b"hello there") == 2, "pipelined"
        eventually(upstream.hung_up.is_set)
    assert [asked.connection for asked in upstream.asked] == [0, 0, 0, 1, 1]
    assert len(recorded.entries) == 5


def test_a_server_that_closed_a_kept_connection_is_asked_on_a_new_one(trace):
    def script(asked: Asked, sock: socket.socket) -> bool:
        """The answer and the end of the connection in one segment."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        sock.sendall(whole(completion()))
        sock.shutdown(socket.SHUT_WR)
        return False

    with Upstream(script) as upstream, Recorded(upstream.url, trace) as recorded:
        connection = http.client.HTTPConnection("127.0.0.1", recorded.port, timeout=PATIENCE)
        for _ in range(3):
            connection.request("POST", "/v1/completions", BODY)
            assert connection.getresponse().read() == completion()
        connection.close()
    assert [asked.connection for asked in upstream.asked] == [0, 1, 2]


def test_a_server_that_is_down_is_a_502_in_openais_shape(trace):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Recorded(f"http://127.0.0.1:{port}", trace) as recorded:
        status, _, _, body = ask(recorded.port)
        assert ask(recorded.port, "HEAD", None)[0] == 502
    error = json.loads(body)["error"]
    assert status == 502 and error["code"] == "upstream_unreachable" and error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    (entry,) = recorded.entries
    assert entry.outcome.status == 502 and entry.outcome.error == "upstream_unreachable"


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n"])
def test_a_server_that_does_not_answer_is_a_502(sent, trace):
    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(sent)
        return False

    with Upstream(script) as upstream, Recorded(upstream.url, trace) as recorded:
        status, _, _, body = ask(recorded.port)
        assert status == 502 and json.loads(body)["error"]["code"] == "upstream_closed"
    assert recorded.entries[0].outcome.error == "upstream_closed"


@pytest.mark.parametrize("head", [STREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_a_server_that_dies_amid_an_answer_cuts_it_for_the_client_too(head, trace):
    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(head + chunk(token("one")))
        return False

    with Upstream(script) as upstream, Recorded(upstream.url, trace) as recorded:
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(recorded.port)
        assert b"one" in caught.value.partial
    (entry,) = recorded.entries
    assert entry.outcome.status == 200 and entry.outcome.error == "upstream_closed"


def test_a_client_that_leaves_ends_the_request_at_the_server(trace):
    over = threading.Event()

    def script(asked: Asked, sock: socket.socket) -> bool:
        sock.sendall(STREAM + chunk(token("one")))
        over.set() if not sock.recv(1) else None
        return False

    with Upstream(script) as upstream, Recorded(upstream.url, trace) as recorded:
        with recorded.connect() as sock:
            sock.sendall(post(b'{"prompt": "a", "stream": true}'))
            received_with(sock, b"one")
        assert over.wait(PATIENCE), "the server was not told"
    (entry,) = recorded.entries
    assert entry.outcome.client_gone and not entry.outcome.error
    assert entry.output_tokens == 1 and entry.outcome.ttft is not None


def test_a_client_that_leaves_amid_its_body_is_noted(trace):
    with Upstream(says(whole(b"{}"))) as upstream, Recorded(upstream.url, trace) as recorded:
        with recorded.connect() as sock:
            sock.sendall(post(BIG[:100_000])[:50_000])
        eventually(lambda: len(recorded.path.read_bytes().splitlines()) == 2)
    assert recorded.entries[0].outcome.client_gone and not upstream.asked


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_bound_is_refused(chunked, trace):
    with (
        Upstream(says(whole(b"{}"))) as upstream,
        Recorded(upstream.url, trace, max_body_bytes=1 << 20) as recorded,
    ):
        body = bytes(10 << 20)
        with recorded.connect() as sock:
            if chunked:
                head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
                sent = threading.Thread(target=_send, args=(sock, head + chunk(body)))
            else:
                sent = threading.Thread(target=_send, args=(sock, post(body)))
            sent.start()
            answer = received(sock)
            sent.join(PATIENCE)
        assert answer.startswith(b"HTTP/1.1 413") and b'"body_too_large"' in answer
        assert ask(recorded.port)[0] == 200, "others are served"
    assert [asked.body for asked in upstream.asked] == [BODY]
    assert [e.outcome.error for e in recorded.entries] == ["body_too_large", ""]


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)


def test_what_is_too_large_to_look_at_passes_all_the_same(trace):
    body = json.dumps({"prompt": "x" * (10 << 20)}).encode()
    answer = whole(b" " * (10 << 20) + completion())
    with (
        Upstream(says(answer)) as upstream,
        Recorded(upstream.url, trace, max_held_bytes=1 << 20, keep_text=True) as recorded,
    ):
        assert ask(recorded.port, body=body)[3] == answer.partition(b"\r\n\r\n")[2]
        assert upstream.asked[0].body == body
    (entry,) = recorded.entries
    assert entry.request_bytes == len(body) and not entry.prompt and not entry.hash_ids
    assert entry.input_estimated and entry.input_tokens == round(len(body) / 4)


def test_more_clients_than_are_let_in_are_told_so(trace):
    with (
        Upstream(says(whole(b"{}"))) as upstream,
        Recorded(upstream.url, trace, max_connections=2) as recorded,
    ):
        with recorded.connect() as one, recorded.connect() as two:
            for sock in (one, two):
                sock.sendall(post(BODY))
                received_with(sock, b"{}")
            with recorded.connect() as three:
                assert received(three).startswith(b"HTTP/1.1 503")
        eventually(lambda: _status(recorded.port) == 200)


def _status(port: int) -> int:
    try:
        return ask(port)[0]
    except OSError:
        return 0


HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"
REFUSED = {
    b"GARBAGE\r\n\r\n": b"400",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": b"400",
    b"POST /v1/completions HTTP/1.1\r\n\r\n": b"400",
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n": b"400",
    HEAD + b"Content-Length: -1\r\n\r\n": b"400",
    HEAD + b"Transfer-Encoding: gzip\r\n\r\n": b"501",
    HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": b"400",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n": b"400",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n": b"400",
    b"GET http://elsewhere/ HTTP/1.1\r\nHost: localhost\r\n\r\n": b"400",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n": b"403",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n": b"431",
}


def test_garbage_is_refused_and_harms_nobody(trace):
    with Upstream(says(whole(b"{}"))) as upstream, Recorded(upstream.url, trace) as recorded:
        for sent, status in REFUSED.items():
            with recorded.connect() as sock:
                sock.sendall(sent)
                sock.shutdown(socket.SHUT_WR)
                answer = received(sock)
            assert answer.startswith(b"HTTP/1.1 " + status), (sent[:60], answer[:60])
            assert b'"error"' in answer
        assert ask(recorded.port)[0] == 200
    assert len(upstream.asked) == 1


PIECES = st.sampled_from(
    [b"POST", b"GET", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b":",
     b"Content-Length: 5", b"Host: localhost", b"Transfer-Encoding: chunked",
     b"Expect: 100-continue", b"5\r\nabcde\r\n", b"0\r\n\r\n", b"\r\n\r\n",
     b"Connection: close, host", b"\0", b"\xff"]
)  # fmt: skip


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "trace.jsonl"
    with Upstream(says(whole(b"{}"))) as upstream, Recorded(upstream.url, path) as recorded:
        yield recorded


@settings(max_examples=80, deadline=None)
@given(pieces=st.lists(PIECES | st.binary(max_size=12), max_size=14))
def test_any_bytes_are_answered_or_hung_up_on(pieces, standing):
    with standing.connect() as sock:
        _send(sock, b"".join(pieces))
        sock.shutdown(socket.SHUT_WR)
        answer = received(sock)
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert ask(standing.port)[0] == 200


def test_no_key_is_in_the_trace(trace):
    with Upstream(says(whole(completion()))) as upstream:
        with Recorded(upstream.url, trace, keep_text=True) as recorded, recorded.connect() as sock:
            more = ("Authorization: Bearer sk-one", "X-Api-Key: sk-two", "Cookie: sk-three")
            sock.sendall(post(BODY, "/v1/completions?api_key=sk-four", *more, "Connection: close"))
            received(sock)
        sent = upstream.asked[0]
        assert all(key in sent.head.decode() for key in ("sk-one", "sk-two", "sk-three", "sk-four"))
    text = trace.read_text()
    assert "sk-" not in text and "hello" in text
    assert trace.stat().st_mode & 0o077 == 0, "prompts are for their owner"


def test_text_is_kept_only_where_it_is_asked_for(trace):
    with Upstream(says(whole(completion()))) as upstream, Recorded(upstream.url, trace) as recorded:
        ask(recorded.port, body=json.dumps({"prompt": "a secret " * 100}).encode())
    assert "secret" not in trace.read_text() and "hello there" not in trace.read_text()
    (entry,) = recorded.entries
    assert len(entry.hash_ids) == 900 // 128 and entry.chars == 900


def test_only_posts_are_recorded_and_the_base_path_is_added(trace):
    with Upstream(says(whole(b"{}"))) as upstream:
        with Recorded(upstream.url + "/llm/v1", trace) as recorded:
            ask(recorded.port, "GET", None)
            ask(recorded.port, "HEAD", None)
        assert upstream.asked[0].line == "GET /llm/v1/completions?a=b HTTP/1.1"
    assert recorded.entries == []


def test_an_https_server_is_asked_over_tls(trace, monkeypatch):
    pem = str(Path(__file__).parent / "tls.pem")
    monkeypatch.setenv("SSL_CERT_FILE", pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    with (
        Upstream(says(whole(completion())), tls) as upstream,
        Recorded(upstream.url, trace) as recorded,
    ):
        assert ask(recorded.port)[3] == completion()
    assert recorded.entries[0].output_tokens == 3


def test_a_certificate_that_nobody_vouches_for_is_a_502(tmp_path, trace, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(str(Path(__file__).parent / "tls.pem"))
    with Upstream(says(whole(completion())), tls) as upstream:
        with Recorded(upstream.url, trace) as recorded:
            assert ask(recorded.port)[0] == 502
        assert not upstream.asked


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"upstream": "ftp://x"}, "no http"),
        ({"upstream": "http://u:p@x"}, "more than a base"),
        ({"upstream": "http://127.0.0.1:8100"}, "itself"),
        ({"upstream": "http://x", "host": "0.0.0.0"}, "could use"),
        ({"upstream": "http://x", "port": 70_000}, "no port"),
    ],
)
def test_addresses_that_can_not_be_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ProxyConfig(**fields)
