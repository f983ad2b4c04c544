"""What the importers share: numbers, statistics' names, a run's outcome, a point's identity.

Not here: any one tool's format, files (read.py).
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point

UNKNOWN = "unknown"
"""An engine or a model that the file does not name."""
NAMED_STATS = {"mean": "mean", "avg": "mean", "median": "p50", "min": "min", "max": "max"}
MAX_PLAIN_INT = 2**63 - 1

_PERCENTILE = re.compile(r"p\d{1,2}(\.\d{1,3})?")
_FLAT = re.compile(r"([a-z]+|p[\d.]+)_(ttft|tpot|itl|e2el|e2e_latency)_ms")
_FLAT_METRICS = {"e2el": "e2e", "e2e_latency": "e2e"}
_FLAT_RATES = {
    "input_throughput": "input_throughput",
    "output_throughput": "output_throughput",
    "total_throughput": "total_throughput",
    "total_token_throughput": "total_throughput",
    "request_throughput": "request_throughput",
    "request_goodput": "goodput",
}

Json = dict[str, Any]
Shape = TypeVar("Shape")


def number(value: object) -> float | None:
    """A finite number, or nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def setting(value: object) -> float | int | None:
    """A finite number as a setting: 8.0 and 8 are one, so that points with them compare."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() and abs(found) < 2**53 else found


def stat_name(name: str) -> str | None:
    """The canonical name of a statistic, None for one without a counterpart (std)."""
    return NAMED_STATS.get(name) or (name if _PERCENTILE.fullmatch(name) else None)


def spread(metric: str, found: object, divisor: float = 1.0) -> dict[str, float]:
    """A distribution's statistics by canonical keys; `divisor` leads to base units."""
    if not isinstance(found, Mapping):
        return {}
    named = ((stat_name(name), number(value)) for name, value in found.items())
    return {f"{metric}:{s}": v / divisor for s, v in named if s is not None and v is not None}


def flat_values(found: Mapping[str, object]) -> dict[str, float]:
    """Metrics of the family whose keys look like mean_ttft_ms and output_throughput."""
    values: dict[str, float] = {}
    for key, value in found.items():
        match, known = _FLAT.fullmatch(key), number(value)
        if known is None:
            continue
        if key in _FLAT_RATES:
            values[_FLAT_RATES[key]] = known
        elif match and (stat := stat_name(match[1])):
            values[f"{_FLAT_METRICS.get(match[2], match[2])}:{stat}"] = known / 1000
    return values


def plain(found: Mapping[str, Any]) -> Json:
    """The settings that are set, as JSON keeps them; an endless number as its name."""
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) > MAX_PLAIN_INT:
        return str(value)
    return value


def outcome(values: dict[str, float], succeeded: float | None, failed: float | None) -> Json:
    """Status, reason and values: latencies of a run in which nothing succeeded mean nothing."""
    succeeded, failed = number(succeeded), number(failed)
    if succeeded is not None and succeeded <= 0:
        return {
            "status": "failed",
            "reason": "no request succeeded",
            "values": {"error_rate": 1.0},
        }
    if not values:
        return {"status": "failed", "reason": "the file gives no result for this run"}
    if succeeded is not None and failed is not None and failed >= 0:
        values = values | {"error_rate": failed / (succeeded + failed)}
    return {"values": values}


def shaped(raw: object, shape: type[Shape], tool: str) -> Shape:
    """What we read of a document, with its types checked. Raises ConfigError."""
    try:
        return msgspec.convert(raw, shape)
    except (ValueError, OverflowError, TypeError) as error:
        raise ConfigError(f"no result of {tool}: {error}", "is the file whole?") from error


def imported(tool: str, name: str, raw: object, fields: Json) -> Point:
    """The point of one run; its id follows from the run's own text alone."""
    text = json.dumps(raw, sort_keys=True)
    digest = hashlib.blake2b(f"{tool}\n{text}".encode(), digest_size=12).hexdigest()
    whole: Json = {"id": f"imported-{digest}", "study": name, "origin": f"{tool}, {name}"}
    try:
        point = Point(source="imported", **(whole | fields))
        msgspec.json.encode(point)
    except (ValueError, OverflowError, TypeError) as error:
        raise ConfigError(f"no result of {tool}: {error}", "is the file whole?") from error
    return point


def utc(seconds: float | None) -> str:
    """A Unix time as the point's date; "" where there is none."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else ""
    except (ValueError, OverflowError, OSError):
        return ""


def hardware(name: str | None, count: int | None) -> str:
    """The short name that the explorer groups by: "H100 x4"."""
    if not name or name == UNKNOWN:
        return ""
    return f"{name} x{count}" if count else name
