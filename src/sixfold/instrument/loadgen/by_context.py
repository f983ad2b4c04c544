"""Time per output token by the length of context: what a mean over all tokens hides.

Not here: the metrics of a run (report.py).
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from sixfold.core.metrics import RequestTrace

EDGES = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Tokens of prompt and answer so far; the last bin has no upper edge."""


def tpot_by_context(traces: Sequence[RequestTrace]) -> dict[str, dict[str, float]]:
    """Mean gap between tokens in seconds, and their count, by context: "512-1023", ... "32768+".

    A token's context is its prompt and the tokens before it. Over requests that succeeded; bins
    without tokens are absent.
    """
    sums, counts = [0.0] * len(EDGES), [0] * len(EDGES)
    for trace in traces:
        if trace.ok:
            for number, (before, after) in enumerate(pairwise(trace.token_times), 1):
                place = bisect_right(EDGES, trace.num_prompt_tokens + number) - 1
                sums[place] += after - before
                counts[place] += 1
    return {
        _name(place): {"mean_seconds": sums[place] / count, "count": float(count)}
        for place, count in enumerate(counts)
        if count
    }


def _name(place: int) -> str:
    last = place == len(EDGES) - 1
    return f"{EDGES[place]}+" if last else f"{EDGES[place]}-{EDGES[place + 1] - 1}"
