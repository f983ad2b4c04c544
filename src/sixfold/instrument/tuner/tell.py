"""A study's result in words: the call, the command to paste, what each clause costs.

Not here: finding it (tune.py), pages (explorer).
"""

from collections.abc import Iterator, Mapping

from sixfold.core.slo import Slo
from sixfold.instrument.measure import Job
from sixfold.instrument.tables import shown, shown_unit, table
from sixfold.instrument.tuner.advice import Advice, advise, finals
from sixfold.instrument.tuner.capacity import capacity_words
from sixfold.instrument.tuner.outcome import Price, Tried
from sixfold.instrument.tuner.tune import Found
from sixfold.instrument.tuner.verdict import Comparison, needed_repeats

SHOWN = ("goodput", "output_throughput", "ttft:p50", "ttft:p95", "tpot:p50", "itl:p95", "e2e:p95",
         "error_rate")  # fmt: skip


NEW = "new prompts"
GAIN = 0.1
"""A gain that would be worth a change; for scale."""
QUALITY = "quality"
"""A column for lossy settings: the part of the baseline's answers that is the same."""


def verdict_lines(found: Found, job: Job, objective: str, grid: int) -> Iterator[str]:
    """The result of one engine; `grid`: runs of the whole grid with three repeats."""
    advice = advise(found, job.slo)
    yield ""
    if found.refused:
        tried = found.configurations
        yield f"the quality check refused {found.refused} of {tried} configurations"
    yield from _outcome(found, job, advice, objective)
    yield ""
    yield _table(_rows(found, advice), objective)
    yield from _command(advice)
    yield from map(price_words, found.prices)
    yield from _capacities(found, job, advice)
    yield (
        f"one run varies by {found.noise:.1%} (coefficient of variation, defaults): "
        f"to call a gain of {GAIN:.0%} takes {needed_repeats(found.noise, GAIN)} pairs"
    )
    yield (
        f"{found.runs} runs of {found.configurations} configurations; the whole grid, three times "
        f"over, has {grid}"
        + (f"; {found.resumed} runs were taken from before" * bool(found.resumed))
    )


def _outcome(found: Found, job: Job, advice: Advice, objective: str) -> Iterator[str]:
    """How the search ended, and what its finals said."""
    if found.winner is None:
        yield f"nothing of {found.configurations} configurations meets {job.slo}"
        yield "hint: loosen a clause, lower the load, or widen --space"
    elif found.configurations == 1:
        yield "only the defaults were run"
    elif found.winner.key == found.baseline.key:
        yield f"the defaults are the best of {found.configurations} configurations tried"
    else:
        yield _call(found.comparison, objective)
        yield from advice.against
        yield {
            "best": "recommended: the best of the search",
            "defaults": "recommended: the defaults; the candidate is not shown to be better",
            "none": f"recommended: nothing; neither keeps {job.slo} on prompts not tuned on",
        }[advice.name]


def _rows(found: Found, advice: Advice) -> dict[str, Tried]:
    """The rivals as they were tuned, and on the finals' prompts."""
    rows = {"defaults": found.baseline}
    if found.winner is not None and found.winner.key != found.baseline.key:
        name = _candidate(advice)
        new = zip((f"defaults, {NEW}", f"{name}, {NEW}"), finals(found), strict=True)
        rows |= {name: found.winner} | {row: one for row, one in new if one is not None}
    return rows


def _candidate(advice: Advice) -> str:
    return "best" if advice.name == "best" else "candidate"


def _command(advice: Advice) -> Iterator[str]:
    if advice.chosen is not None and (command := advice.chosen.points[0].command):
        yield f"\nrun it with:\n  {command}"


def _capacities(found: Found, job: Job, advice: Advice) -> Iterator[str]:
    for name, limit in zip(("defaults", _candidate(advice)), found.capacity, strict=False):
        words = capacity_words(limit, job.load)
        yield f"highest load of the {name} that meets {job.slo}: {words}"


def engines_table(found: Mapping[str, Found], slo: Slo | None, objective: str) -> str:
    """What is recommended of each engine, side by side, by its finals where it had any."""
    advices = {name: advise(one, slo) for name, one in found.items()}
    rows = {f"{name} ({a.name})": a.judged for name, a in advices.items() if a.judged is not None}
    return _table(rows, objective) if rows else "no engine meets the objectives"


def _call(comparison: Comparison | None, objective: str) -> str:
    if comparison is None:
        return "INCONCLUSIVE: the finals gave nothing to compare"
    low, high = comparison.low - 1, comparison.high - 1
    return (
        f"{comparison.call}: {objective} {comparison.ratio - 1:+.1%} against the defaults "
        f"[{low:+.1%}, {high:+.1%}], {comparison.pairs} pairs on prompts not tuned on"
    )


def _table(rows: Mapping[str, Tried], objective: str) -> str:
    keys = list(dict.fromkeys((objective, *SHOWN)))
    cells = {name: one.values | _quality(one) for name, one in rows.items()}
    known = [key for key in (*keys, QUALITY) if any(key in values for values in cells.values())]
    return table(list(cells.items()), known)


def _quality(one: Tried) -> dict[str, float]:
    """How far a lossy configuration's answers agree with the baseline's; nothing for others."""
    scores = [point.telemetry.get("quality_agreement") for point in one.points]
    known = [value for value in scores if isinstance(value, int | float)]
    return {QUALITY: min(known)} if known else {}


def price_words(price: Price) -> str:
    """What a clause costs, in the metric that tells it."""
    if price.share < 0.005:
        return f"{price.clause} costs no {price.metric}: the best stays the best without it"
    with_it, without = (shown(price.metric, v) for v in (price.with_it, price.without_it))
    return (
        f"{price.clause} costs {price.share:.0%} of {price.metric} "
        f"({with_it} {shown_unit(price.metric)} with it, {without} without)"
    )
