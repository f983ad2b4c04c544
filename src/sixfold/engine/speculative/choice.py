"""How many tokens to draft for whom: as many as make the most of the next step.

Pure. A row that is checked costs what the measured curve says, and is worth the chance that its
token is kept; of all requests' tokens the likeliest come first. Not here: the chances
(acceptance.py), the curve (cost.py).
"""

from collections.abc import Mapping, Sequence

from sixfold.engine.speculative.cost import StepCost

GAIN = 1.05
"""What drafting must promise, in tokens per second against not drafting, to be worth it: more than
the promise may be wrong by."""


def choose(
    requests: int, rows: int, chances: Mapping[str, Sequence[float]], cost: StepCost,
    draft_seconds: float = 0.0,
) -> tuple[dict[str, int], float]:  # fmt: skip
    """(tokens to draft by request, tokens per second that are expected of it).

    `requests` decode, in a step of `rows` without drafts; `chances` has for some of them the
    chances that the first, the first two, ... drafted tokens are kept. `draft_seconds` are spent
    if anything is drafted at all.
    """
    ranked = sorted(
        ((chance, name) for name, some in chances.items() for chance in some), reverse=True
    )
    tokens = float(requests)
    best, best_rate = 0, requests / cost.seconds(rows)
    least = best_rate * GAIN
    for count, (chance, _) in enumerate(ranked, 1):
        tokens += chance
        rate = tokens / (cost.seconds(rows + count) + draft_seconds)
        if rate > max(best_rate, least):
            best, best_rate = count, rate
    # Chances of a request fall with the position, so that the first ranked are the first drafted.
    lengths: dict[str, int] = {}
    for _, name in ranked[:best]:
        lengths[name] = lengths.get(name, 0) + 1
    return lengths, best_rate
