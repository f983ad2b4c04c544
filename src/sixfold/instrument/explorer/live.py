"""The page from a small server on this machine, which shows points as a run appends them.

Two routes, GET only, on 127.0.0.1: the page, and the points after a number as JSON. A request must
name this very address as its host, so that no other site's name can be pointed here; nothing is
ever written. Not here: the page itself (page.py), reading the store (store/follow.py).
"""

import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.advisor.scoreboard import Entry
from sixfold.instrument.explorer.page import plain, render
from sixfold.instrument.store.follow import is_under_way, points_after

HOST = "127.0.0.1"
MOST_POINTS = 500
"""Points of one answer; the page asks again while there are more."""
MOST_CONNECTIONS = 16
REQUEST_SECONDS = 10.0
"""A connection that is silent for so long is closed."""
FAREWELL_SECONDS = 3.0
"""How long the end of a run waits for open pages to hear of it; they ask each second."""
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveServer:
    """Serves a store's points while it is open; use it as a context manager."""

    def __init__(
        self,
        store: Path,
        title: str,
        port: int = 0,
        others: Sequence[Point] = (),
        scoreboard: Sequence[Entry] = (),
    ) -> None:
        """Listen. `others` are shown beside the store's points. Raises ConfigError."""
        self._store = store
        self._title = title
        self._others = [plain(point) for point in others]
        self._scoreboard = scoreboard
        self._asked = 0.0
        self._farewell = threading.Event()
        points_after(store, 0, 1)
        try:
            self._server = _Server(self, port)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"can't listen on port {port}: {error}", "use --port 0") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port that it got."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://{HOST}:{self.port}/"

    def __enter__(self) -> "LiveServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def say_farewell(self) -> None:
        """After a run's end: wait, shortly, until an open page has heard of it and has all."""
        if time.monotonic() - self._asked < FAREWELL_SECONDS:
            self._farewell.wait(FAREWELL_SECONDS)

    def hosts(self) -> tuple[str, ...]:
        """What a request may name as its host."""
        return (f"{HOST}:{self.port}", f"localhost:{self.port}")

    def page(self) -> bytes:
        """The page with the first points; it asks for the rest."""
        rows = points_after(self._store, 0, MOST_POINTS)
        points = [plain(point) for _, point in rows]
        here = {point["id"] for point in points}
        points += [point for point in self._others if point["id"] not in here]
        after = rows[-1][0] if rows else 0
        return render(points, self._title, after, self._scoreboard).encode()

    def points(self, after: int) -> bytes:
        """Points after a number as JSON, and whether the run goes on."""
        running = is_under_way(self._store)  # asked first: no point follows a run that has ended
        rows = points_after(self._store, after, MOST_POINTS)
        more = len(rows) == MOST_POINTS
        body: dict[str, Any] = {
            "points": [plain(point) for _, point in rows],
            "next": rows[-1][0] if rows else after,
            "more": more,
            "running": running,
        }
        return msgspec.json.encode(body)

    def heard(self, answer: bytes) -> None:
        """An answer of `points` was sent."""
        self._asked = time.monotonic()
        if answer.endswith(b'"more":false,"running":false}'):
            self._farewell.set()
        else:
            self._farewell.clear()


class _Server(ThreadingHTTPServer):
    """At most MOST_CONNECTIONS at a time; more are closed at once."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, live: LiveServer, port: int) -> None:
        self.live = live
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, then the connection is closed (HTTP/1.0)."""

    timeout = REQUEST_SECONDS
    server_version = "sixfold"
    sys_version = ""

    def do_GET(self) -> None:
        """The page, or points."""
        assert isinstance(self.server, _Server)
        live = self.server.live
        if (self.headers.get_all("Host") or []) not in [[host] for host in live.hosts()]:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        parts = urlsplit(self.path)
        try:
            if parts.path == "/" and not parts.query:
                self._answer(200, "text/html; charset=utf-8", live.page())
            elif parts.path == "/points" and (after := _after(parts.query)) is not None:
                answer = live.points(after)
                self._answer(200, "application/json", answer)
                live.heard(answer)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
        except ConfigError:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Words of our own only: nothing of the request comes back."""
        self._answer(int(code), "text/plain; charset=utf-8", HTTPStatus(code).phrase.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is the run's."""

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _after(query: str) -> int | None:
    """N of "after=N"; None for anything else."""
    values = parse_qs(query, max_num_fields=4).get("after", []) if len(query) <= 64 else []
    text = values[0] if len(values) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
