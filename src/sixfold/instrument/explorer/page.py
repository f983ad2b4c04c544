"""Points as one HTML page that needs no server and no network: assets and data are inlined.

The page may run its own script and nothing else (Content-Security-Policy with hashes), and texts
of points reach it as JSON only. Not here: what the page does (assets/*.js), stores, serving
it while a run appends (live.py).
"""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.metric_names import METRICS
from sixfold.core.point import Point
from sixfold.core.slo import parse_slo
from sixfold.core.slo_presets import PRESETS
from sixfold.instrument.advisor.match import QUESTIONS, adoption, matches, techniques
from sixfold.instrument.advisor.scoreboard import Entry
from sixfold.instrument.advisor.tally import rows
from sixfold.instrument.telemetry.sampler import CANONICAL
from sixfold.strategies import ENGINES

SCRIPTS = (
    "model.js", "state.js", "chart.js", "controls.js", "panels.js", "table.js", "guide.js",
    "scoreboard.js", "app.js",
)  # fmt: skip
"""Concatenated in this order into one closed scope."""
LIVE_SCRIPT = "live.js"
"""Goes before the last one, in a page that is served while points arrive; no other page asks."""
SIGNS = {"<": "<", "<=": "\u2264", ">": ">", ">=": "\u2265"}
"""Comparisons as the page writes them."""


def write_page(
    points: Iterable[Point], path: Path, title: str, scoreboard: Sequence[Entry] = ()
) -> int:
    """Write the page (an old one is replaced when the new one is whole); the number of points.

    `scoreboard`: verdicts on advice, for a panel of their own. Raises ConfigError if the place
    can't be written.
    """
    shown = [plain(point) for point in points]
    text = render(shown, title, scoreboard=scoreboard)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        raise ConfigError(
            f"can't write {path.name}: {error.strerror}", "name another file with -o"
        ) from error
    return len(shown)


def render(
    points: list[dict[str, Any]],
    title: str,
    live_after: int | None = None,
    scoreboard: Sequence[Entry] = (),
) -> str:
    """The page's text; equal points give equal text.

    With `live_after` it is a page to serve: it asks its server for points after that number.
    """
    live = live_after is not None
    names = (*SCRIPTS[:-1], LIVE_SCRIPT, SCRIPTS[-1]) if live else SCRIPTS
    script = '"use strict";\n(() => {\n' + "\n".join(map(_asset, names)) + "\n})();\n"
    style = _asset("style.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}';"
        " base-uri 'none'; form-action 'none'" + ("; connect-src 'self'" if live else "")
    )
    settings = {
        "presets": presets(),
        "metrics": metrics(),
        "guide": guide(),
        "scoreboard": msgspec.to_builtins(rows(scoreboard)),
        "live_after": live_after,
    }
    parts = {
        "title": html.escape(title),
        "policy": policy,
        "style": style,
        "settings": embedded(settings),
        "data": embedded(points),
        "script": script,
    }
    page = []
    for piece in _asset("template.html").split("{{"):
        name, end, rest = piece.partition("}}")
        page += [parts[name], rest] if end else [piece]
    return "".join(page)


def presets() -> list[dict[str, Any]]:
    """Published objectives as the page's budgets, each with who published it."""
    return [
        {
            "name": preset.name,
            "source": preset.source,
            "budgets": [
                {"metric": clause.key, "op": SIGNS[clause.op], "value": clause.bound}
                for clause in parse_slo(preset.text).clauses
            ],
        }
        for preset in PRESETS.values()
    ]


def metrics() -> list[dict[str, str]]:
    """Unit and better direction of every metric, also under the names that telemetry has for it."""
    seen = {f"telemetry.{key}": METRICS[name.partition(":")[0]] for key, name in CANONICAL.items()}
    return [
        {"name": name, "unit": metric.unit, "better": "min" if metric.lower_is_better else "max"}
        for name, metric in (METRICS | seen).items()
    ]


def guide() -> dict[str, Any]:
    """Every constraint and symptom with its techniques in order, and what their cards say."""
    return {
        "questions": [
            {
                "kind": question.kind,
                "text": question.text,
                "matches": [{"name": m.technique.name, "why": m.why} for m in matches(question)],
            }
            for question in QUESTIONS
        ],
        "techniques": msgspec.to_builtins(techniques()),
        "adoption": [
            {"name": step.name, "what": step.what, "techniques": [t.name for t in step.techniques]}
            for step in adoption()
        ],
        "engines": ENGINES,
    }


def embedded(value: object) -> str:
    """JSON that can't end the script element that holds it, nor begin a comment in it."""
    text = msgspec.json.encode(value, order="deterministic").decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def plain(point: Point) -> dict[str, Any]:
    """The point without what is empty; the page fills it in again."""
    full: dict[str, Any] = msgspec.to_builtins(point)
    return {name: value for name, value in full.items() if value not in ("", 0, None, [], {}, ())}


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
