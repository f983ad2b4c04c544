"""Points as one HTML file that needs no server and no network: assets and data are inlined.

The page may run its own script and nothing else (Content-Security-Policy with hashes), and texts
of points reach it as JSON only. Not here: what the page does (assets/*.js), stores.
"""

import base64
import hashlib
import html
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point

SCRIPTS = ("model.js", "state.js", "chart.js", "controls.js", "panels.js", "table.js", "app.js")
"""Concatenated in this order into one closed scope."""


def write_page(points: Iterable[Point], path: Path, title: str) -> int:
    """Write the page (an old one is replaced when the new one is whole); the number of points.

    Raises ConfigError if the place can't be written.
    """
    plain = [_plain(point) for point in points]
    text = render(plain, title)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        raise ConfigError(
            f"can't write {path.name}: {error.strerror}", "name another file with -o"
        ) from error
    return len(plain)


def render(points: list[dict[str, Any]], title: str) -> str:
    """The page's text; equal points give equal text."""
    script = '"use strict";\n(() => {\n' + "\n".join(map(_asset, SCRIPTS)) + "\n})();\n"
    style = _asset("style.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}';"
        " base-uri 'none'; form-action 'none'"
    )
    parts = {
        "title": html.escape(title),
        "policy": policy,
        "style": style,
        "data": embedded(points),
        "script": script,
    }
    page = []
    for piece in _asset("template.html").split("{{"):
        name, end, rest = piece.partition("}}")
        page += [parts[name], rest] if end else [piece]
    return "".join(page)


def embedded(value: object) -> str:
    """JSON that can't end the script element that holds it, nor begin a comment in it."""
    text = msgspec.json.encode(value, order="deterministic").decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(point: Point) -> dict[str, Any]:
    """The point without what is empty; the page fills it in again."""
    full: dict[str, Any] = msgspec.to_builtins(point)
    return {name: value for name, value in full.items() if value not in ("", 0, None, [], {}, ())}


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
