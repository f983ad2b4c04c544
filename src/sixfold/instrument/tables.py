"""Values of points as a text table, in the units that people read: ms, tok/s, %.

Not here: pages (explorer), what metrics mean (core/metric_names.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sixfold.core.metric_names import METRICS


def table(rows: Sequence[tuple[str, Mapping[str, float]]], keys: Sequence[str]) -> str:
    """One line a row; its name first, then a cell for each key, "-" where it has none."""
    lines = [["", *(f"{key} ({shown_unit(key)})" for key in keys)]]
    lines += [
        [name, *(shown(key, values[key]) if key in values else "-" for key in keys)]
        for name, values in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def fingerprint_words(shape: Mapping[str, Any]) -> str:
    """A fingerprint, as a point holds it, in one line: what is sent."""
    return (
        f"{shape['requests']} requests, input mean {shape['input']['mean']:.0f} {shape['unit']}, "
        f"output mean {shape['output']['mean']:.0f}, ideal prefix reuse "
        f"{shape['prefix_reuse']:.0%}, burstiness {shape['burstiness']:.2g}, id {shape['id']}"
    )


def shown(key: str, value: float) -> str:
    """A value in base units, as text in the shown unit."""
    scaled = value * {"ms": 1e3, "%": 100.0}.get(shown_unit(key), 1.0)
    return f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"


def shown_unit(key: str) -> str:
    """The unit that a key's values are shown in."""
    metric = METRICS.get(key.rpartition("/")[2].partition(":")[0])
    if metric is None:
        return "%" if key == "quality" else "count"
    if metric.kind == "money":
        return "$/Mtok"
    return {"time": "ms", "ratio": "%"}.get(metric.kind, metric.unit)
