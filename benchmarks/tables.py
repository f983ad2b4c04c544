"""Results as a text table: one row a variant, medians in the cells."""

from collections.abc import Mapping

from sixfold.core.record import Measure

Results = Mapping[str, Mapping[str, Measure]]


def cells(results: Results) -> list[list[str]]:
    """A header and a row per variant; the spread stands behind a repeated measure."""
    columns = list(dict.fromkeys(name for row in results.values() for name in row))
    units = {name: m.unit for row in results.values() for name, m in row.items()}
    table = [["", *(f"{name} ({units[name]})" for name in columns)]]
    for variant, row in results.items():
        table.append([variant, *(_cell(row.get(name)) for name in columns)])
    return table


def render(results: Results) -> str:
    """For a terminal."""
    table = cells(results)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for first, *rest in table:
        right = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(results: Results) -> str:
    """For a page."""
    header, *rows = cells(results)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(measure: Measure | None) -> str:
    if measure is None:
        return "-"
    value = measure.median
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} ±{measure.spread / 2:.0%}" if len(measure.values) > 1 else text
