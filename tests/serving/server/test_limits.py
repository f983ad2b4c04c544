"""Attacks on HTTP itself: each ends within its deadline, and honest requests don't notice."""

import time
from collections.abc import Iterator

import pytest
from fake_engine import expected_text
from server_harness import PATIENCE, Server, eventually, read_all, request_bytes

_BODY = b'{"prompt": "hello", "max_tokens": 3}'


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server with short deadlines."""
    running = Server(
        header_timeout=0.4,
        body_timeout=0.4,
        write_timeout=0.5,
        keep_alive_timeout=1.0,
        max_body_bytes=100_000,
        max_connections=40,
    )
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.stderr()
    running.close()


@pytest.fixture(autouse=True)
def _honest(strict: Server) -> Iterator[None]:
    """After every attack the server serves."""
    yield
    assert strict.complete("hello", 3).json()["choices"][0]["text"] == expected_text("hello", 3)


def test_silence_is_closed(strict: Server) -> None:
    with strict.connect() as sock:
        assert read_all(sock) == b""


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_dripping_headers_are_closed(strict: Server, first: bytes) -> None:
    """Also those of a kept-alive connection's second request."""
    with strict.connect() as sock:
        if first:
            sock.sendall(first)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        sock.settimeout(0.05)
        for byte in b"GET /health HTTP/1.1\r\nX-Slow: " + b"x" * 10_000:
            try:
                sock.sendall(bytes([byte]))
                if sock.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        else:
            pytest.fail("the connection stayed open")
        assert time.monotonic() - began < PATIENCE


def test_an_idle_kept_alive_connection_is_closed(strict: Server) -> None:
    with strict.connect() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b'"ok"' in read_all(sock)


@pytest.mark.parametrize("sent", [b"", b"{", _BODY[:-1]])
def test_a_slow_body_is_answered_408(strict: Server, sent: bytes) -> None:
    data = request_bytes("/v1/completions", _BODY)[: -len(_BODY)] + sent
    assert strict.raw(data).startswith(b"HTTP/1.1 408")


def test_a_slow_body_that_nobody_reads_is_closed(strict: Server) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n"
    assert strict.raw(head).startswith(b"HTTP/1.1 200")


def test_a_slow_chunked_body_is_answered_408(strict: Server) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    data = head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
    assert strict.raw(data).startswith(b"HTTP/1.1 408")


def test_a_large_body_is_refused_by_its_length(strict: Server) -> None:
    data = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for length in (b"100001", b"9" * 18):
        answer = strict.raw(data + b"Content-Length: " + length + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer


def test_a_large_chunked_body_is_refused_while_it_is_read(strict: Server) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    data = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 8
    assert strict.raw(data).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_served(strict: Server) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in _BODY) + b"0\r\n\r\n"
    data = head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert expected_text("hello", 3).encode() in strict.raw(data)


def test_a_body_of_crumbs_is_cut(strict: Server) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    data = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000
    # That `raw` returns says that the server ended it: the last chunk never comes. The answer may
    # be lost in the reset, as crumbs are still on their way.
    assert strict.raw(data)[:12] in (b"HTTP/1.1 408", b"HTTP/1.1 413", b"")


@pytest.mark.parametrize(
    "head",
    [
        "".join(f"X-{i}: y\r\n" for i in range(100)),
        "".join(f"X-{i}: y\r\n" for i in range(5000)),
        f"X-Long: {'y' * 15_000}\r\nX-More: {'y' * 2_000}\r\n",
        f"X-Huge: {'y' * 1_000_000}\r\n",
    ],
)
def test_large_headers_are_refused(strict: Server, head: str) -> None:
    data = f"GET /health HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode()
    answer = strict.raw(data)
    # A reset instead of an answer is possible while megabytes are still on their way.
    lost = (b"HTTP/1.1 400", b"") if len(data) > 100_000 else ()
    assert answer[:12] in (b"HTTP/1.1 431", *lost)


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5x\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_ambiguous_framing_is_refused_and_ends_the_connection(strict: Server, framing: str) -> None:
    head = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    smuggled = "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = strict.raw(f"{head}{framing}\r\n0\r\n\r\n{smuggled}".encode())
    assert answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX y: z\r\n\r\n",
    ],
)
def test_garbage_is_a_400(strict: Server, data: bytes) -> None:
    assert strict.raw(data).startswith(b"HTTP/1.1 4")


def test_a_reader_that_never_reads_is_cut_and_its_request_cancelled(strict: Server) -> None:
    body = b'{"prompt": "never read", "max_tokens": 500, "n": 32, "stream": true}'
    with strict.connect(receive_buffer=2048) as sock:
        sock.sendall(request_bytes("/v1/completions", body))
        eventually(lambda: strict.get("/load").json()["server_load"] > 0)
        eventually(lambda: strict.get("/load").json()["server_load"] == 0)
        eventually(lambda: strict.get("/load").json()["num_requests_running"] == 0)
        assert b"[DONE]" not in read_all(sock)


def test_too_many_connections_are_answered_503(strict: Server) -> None:
    held = [strict.connect() for _ in range(40)]
    try:
        answers = []
        for _ in range(5):
            with strict.connect() as sock:
                answers.append(read_all(sock)[:12])
        assert set(answers) - {b""} == {b"HTTP/1.1 503"}
    finally:
        for sock in held:
            sock.close()
    eventually(lambda: not strict.raw(b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 503"))
