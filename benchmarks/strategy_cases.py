"""What each strategy is measured with: a workload that it is for, and one that it is not for.

Data only; the switches are the cards' own. Not here: measuring (strategies.py).
"""

from collections.abc import Mapping

import msgspec

from sixfold.instrument.loadgen.arrivals import Arrivals, gamma, poisson


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One workload under one load, and the metric that says whether the strategy helped."""

    label: str
    """A few words for the table."""
    why: str
    """What is to be expected, in a sentence."""
    workload: str
    load: Arrivals | int
    """Arrivals, or sessions at once."""
    metric: str


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy's two workloads."""

    suits: Use
    unsuited: Use


COMMON: dict[str, bool | int | float | str] = {"max_num_seqs": 16, "kv_cache_memory_mb": 1024}
"""Flags that all servers get; a fixed cache, since what is free depends on who starts first."""
UNEQUAL = "random:count=48,input=64,output=16-160"
EQUAL = "random:count=48,input=64,output=64"

CASES: Mapping[str, Case] = {
    "prefix caching": Case(
        suits=Use(
            label="chats behind one system prompt",
            why="Every turn repeats the system prompt and the history.",
            workload="chat:count=16,turns=3,system=600,user=40,output=32",
            load=8,
            metric="ttft:p50",
        ),
        unsuited=Use(
            label="unrelated prompts",
            why="Nothing repeats: all that is left is the cost of hashing.",
            workload="random:count=32,input=512,output=32",
            load=8,
            metric="ttft:p50",
        ),
    ),
    "continuous batching": Case(
        suits=Use(
            label="answers of unequal lengths, arriving over time",
            why="A static batch makes newcomers wait for its longest answer.",
            workload=UNEQUAL,
            load=poisson(2.5),
            metric="ttft:p95",
        ),
        unsuited=Use(
            label="one request at a time",
            why="There is nothing to share a step with.",
            workload="random:count=8,input=64,output=64",
            load=1,
            metric="tpot:p50",
        ),
    ),
    "static batching": Case(
        suits=Use(
            label="equal lengths, all there at once",
            why="Batches stay full to their end: it should lose nothing to continuous batching.",
            workload=EQUAL,
            load=48,
            metric="output_throughput",
        ),
        unsuited=Use(
            label="unequal lengths, all there at once",
            why="Slots idle until a batch's longest answer is done.",
            workload=UNEQUAL,
            load=48,
            metric="output_throughput",
        ),
    ),
    "dynamic batching": Case(
        suits=Use(
            label="short answers, asked for in clumps",
            why="The first of a clump would run alone to its end, and the others wait for it.",
            workload="random:count=96,input=24,output=24",
            load=gamma(16.0, 0.1),
            metric="ttft:p95",
        ),
        unsuited=Use(
            label="one request at a time",
            why="Nobody comes along: all that is left is the wait.",
            workload="random:count=24,input=24,output=1",
            load=1,
            metric="ttft:p50",
        ),
    ),
    "PagedAttention": Case(
        suits=Use(
            label="many short chats in little memory",
            why="Room that is set aside for 8,192 tokens each holds five requests at once.",
            workload="random:count=48,input=64,output=64",
            load=16,
            metric="output_throughput",
        ),
        unsuited=Use(
            label="one request at a time",
            why="One always has room.",
            workload="random:count=8,input=64,output=64",
            load=1,
            metric="tpot:p50",
        ),
    ),
    "chunked prefill": Case(
        suits=Use(
            label="long prompts beside running answers",
            why="A prompt that is computed at once stalls everybody's next token.",
            # Answers of one length would end, and so begin, together: none beside a prompt.
            workload="random:count=24,input=32-1400,output=32-96",
            load=4,
            metric="itl:p99",
        ),
        unsuited=Use(
            label="one long prompt at a time",
            why="Nobody else waits, and more steps can't be faster.",
            workload="random:count=8,input=1400,output=16",
            load=1,
            metric="ttft:p50",
        ),
    ),
}
"""Card name to its case."""
