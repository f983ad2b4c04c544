"""Forced scenarios: each with one cause (or two, or none) that the advisor should name.

Objectives are multiples of what one request gets alone on the machine at hand (T: time to first
token of 200 tokens; I: time between tokens), so that they mean the same on a fast and a slow one.
Not here: running them (scenarios.py).
"""

import json
import random
from pathlib import Path

import msgspec

from sixfold.instrument.backends.spec import Scalar


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario."""

    name: str
    engine: str = "sixfold"
    flags: dict[str, Scalar] = {}
    workload: str
    load: int = 8
    """Sessions at once, of a closed loop."""
    rate: float = 0.0
    """Of an open loop instead: times what the engine serves one at a time."""
    ttft: float = 0.0
    """The objective's p95, as a multiple of T; 0: none."""
    itl: float = 0.0
    """The same of time between tokens, p95, as a multiple of I."""
    itl_p99: float = 0.0
    expected: tuple[str, ...] = ()
    """Symptoms of which one must be named first; none: it is healthy."""
    both: tuple[str, ...] = ()
    """Symptoms that must all be named."""
    kind: str = "bench"
    """bench, client (the client is kept busy), replicas (one of two gets all), layout."""
    served: dict[str, str] = {}


LONG, SHORT = "random:count=24,input=600,output=4", "random:count=32,input=20,output=48"
CHAT = "chat:count=12,turns=2,system=100,user=40,output=32"
MIXED = (
    "random:class=talk,count=5,input=30,output=160;random:class=read,count=6,input=1500,output=2"
)

SIXFOLD = (
    Case(name="prefill: prompts of 600", workload=LONG, ttft=6, itl=900,
         expected=("prefill-saturated",)),
    Case(name="prefill: prompts of 1000", workload="random:count=16,input=1000,output=6", load=6,
         ttft=8, itl=900, expected=("prefill-saturated",)),
    Case(name="interference: whole prompts in a step", workload=MIXED, load=11, ttft=200,
         itl_p99=6, flags={"max_num_batched_tokens": 4096}, expected=("interference",)),
    Case(name="interference: large chunks", workload=MIXED, load=11, ttft=200, itl_p99=6,
         flags={"max_num_batched_tokens": 1024}, expected=("interference",)),
    Case(name="decode bound: 32 at once", workload="random:count=64,input=20,output=64", load=32,
         ttft=60, itl=2, expected=("decode-bound",)),
    Case(name="decode bound: 16 at once", workload="random:count=32,input=20,output=64", load=16,
         ttft=60, itl=1.5, expected=("decode-bound",)),
    Case(name="decode alone", workload="random:count=4,input=20,output=64", load=1, ttft=30,
         itl=0.5, expected=("decode-alone",)),
    Case(name="preemption: 8 that grow", workload="random:count=16,input=60,output=240", load=8,
         flags={"num_kv_blocks": 40}, ttft=4, itl=3, expected=("kv-preempting",)),
    Case(name="preemption: 16 that grow", workload="random:count=24,input=40,output=160", load=16,
         flags={"num_kv_blocks": 48}, ttft=4, itl=3, expected=("kv-preempting",)),
    Case(name="KV blocked: prompts of 600", workload="random:count=16,input=600,output=40", load=8,
         flags={"num_kv_blocks": 44}, ttft=5, itl=300, expected=("kv-blocked",)),
    Case(name="KV blocked: prompts of 300", workload="random:count=24,input=300,output=40",
         load=12, flags={"num_kv_blocks": 36}, ttft=5, itl=300, expected=("kv-blocked",)),
    Case(name="cache off: chat", workload="chat:count=10,turns=2,system=500,user=40,output=16",
         load=10, flags={"enable_prefix_caching": False}, ttft=3, itl=300,
         expected=("prefix-off",)),
    Case(name="cache off: one long prefix", load=8, ttft=4, itl=300,
         workload="random:count=24,input=40,output=16,prefix=600",
         flags={"enable_prefix_caching": False}, expected=("prefix-off",)),
    Case(name="cache too small", workload="shared-prefix:count=60,depth=1,branching=12,"
         "lengths=500,suffix=30,output=8", load=4, flags={"num_kv_blocks": 90, "max_num_seqs": 4},
         ttft=2, itl=300, expected=("cache-too-small",)),
    Case(name="layout: a time stamp first", kind="layout", workload="time", load=8, ttft=4,
         itl=300, expected=("prompt-layout",)),
    Case(name="layout: an id first", kind="layout", workload="id", load=8, ttft=4, itl=300,
         expected=("prompt-layout",)),
    Case(name="batch capped: 1 slot", workload=CHAT, load=12, flags={"max_num_seqs": 1}, ttft=6,
         itl=30, expected=("batch-capped",)),
    Case(name="batch capped: 2 slots", workload=SHORT, load=12, flags={"max_num_seqs": 2}, ttft=6,
         itl=30, expected=("batch-capped",)),
    Case(name="static batches of 4", workload="random:count=24,input=40,output=10-90", load=12,
         flags={"batching": "static", "max_num_seqs": 4}, ttft=6, itl=30,
         expected=("batch-waits",)),
    Case(name="static batches of 8", workload="random:count=32,input=40,output=10-90", load=16,
         flags={"batching": "static", "max_num_seqs": 8}, ttft=6, itl=30,
         expected=("batch-waits",)),
    Case(name="overload: open loop", workload="random:count=90,input=40,output=60", rate=6.0,
         flags={"max_num_seqs": 8}, ttft=6, itl=5, expected=("overload",)),
    Case(name="overload: bursts", workload="random:count=120,input=20,output=50", rate=8.0,
         flags={"max_num_seqs": 12}, ttft=6, itl=5, expected=("overload",)),
    Case(name="the client is the limit", kind="client", workload=SHORT, load=16, ttft=2, itl=1.5,
         expected=("client-bound",)),
    Case(name="one replica of two gets all", kind="replicas",
         workload="random:count=48,input=60,output=48", load=24, flags={"max_num_seqs": 4},
         ttft=4, itl=30, expected=("replica-imbalance",)),
    Case(name="two causes: cache off, large chunks", load=10, ttft=3, itl_p99=4,
         workload="random:class=talk,count=6,input=30,output=160,prefix=1500;"
         "random:class=read,count=12,input=100,output=2,prefix=1500",
         flags={"enable_prefix_caching": False, "max_num_batched_tokens": 4096},
         expected=("prefix-off",)),
    Case(name="two causes: small KV, static", workload="random:count=16,input=60,output=200",
         load=12, flags={"num_kv_blocks": 40, "batching": "static", "max_num_seqs": 8}, ttft=4,
         itl=3, expected=("kv-preempting", "batch-waits"), both=("kv-preempting", "batch-waits")),
)  # fmt: skip

LLAMACPP = (
    Case(name="llama.cpp: prompts of 600", engine="llamacpp", load=4, ttft=5, itl=900,
         workload="random:count=8,input=600,output=4", flags={"parallel": 4, "ctx_size": 8192},
         expected=("prefill-saturated",)),
    Case(name="llama.cpp: 1 slot", engine="llamacpp", load=8, ttft=1.5, itl=30,
         workload="random:count=16,input=20,output=32", flags={"parallel": 1, "ctx_size": 2048},
         expected=("batch-capped",)),
    Case(name="llama.cpp: 16 at once", engine="llamacpp", load=16, ttft=60, itl=1.5,
         workload="random:count=32,input=20,output=32", flags={"parallel": 16, "ctx_size": 8192},
         expected=("decode-bound",)),
    Case(name="llama.cpp: decode alone", engine="llamacpp", load=1, ttft=30, itl=0.5,
         workload="random:count=3,input=20,output=48", flags={"parallel": 2, "ctx_size": 2048},
         expected=("decode-alone",)),
    Case(name="llama.cpp: large chunks", engine="llamacpp", load=9, ttft=200, itl_p99=6,
         workload="random:class=talk,count=4,input=30,output=100;"
         "random:class=read,count=5,input=1200,output=2",
         flags={"parallel": 9, "ctx_size": 16384, "ubatch_size": 1024, "batch_size": 2048},
         expected=("interference",)),
    Case(name="llama.cpp: cache off", engine="llamacpp", load=4, ttft=2.5, itl=300,
         workload="chat:count=4,turns=3,system=400,user=30,output=8",
         flags={"parallel": 4, "ctx_size": 8192, "cache_prompt": False},
         expected=("prefix-off",)),
)  # fmt: skip

HEALTHY = (
    Case(name="healthy: light chat", workload=CHAT, load=2, ttft=10, itl=6),
    Case(name="healthy: busy chat", workload=CHAT, load=12, ttft=60, itl=20),
    Case(name="healthy: KV full but fine", workload="random:count=16,input=200,output=100",
         load=8, flags={"num_kv_blocks": 80}, ttft=100, itl=300),
    Case(name="healthy: a queue that is short enough", workload=SHORT, load=12,
         flags={"max_num_seqs": 4}, ttft=100, itl=20),
    Case(name="healthy: static batches in time", workload=SHORT, load=8,
         flags={"batching": "static"}, ttft=60, itl=20),
    Case(name="healthy: long prompts in time", workload=LONG, load=4, ttft=60, itl=80),
    Case(name="healthy: llama.cpp, light", engine="llamacpp", load=2, ttft=12, itl=8,
         workload="random:count=8,input=40,output=24", flags={"parallel": 4, "ctx_size": 4096}),
    Case(name="healthy: llama.cpp, busy", engine="llamacpp", load=8, ttft=100, itl=30,
         workload="random:count=16,input=40,output=24", flags={"parallel": 4, "ctx_size": 4096}),
)  # fmt: skip

CASES = (*SIXFOLD, *LLAMACPP, *HEALTHY)
WORDS = (
    "river", "stone", "window", "paper", "garden", "music", "letter", "market", "bridge", "winter",
    "silver", "engine", "harbour", "lantern", "meadow", "signal", "copper", "village", "thunder",
)  # fmt: skip


def layout_prompts(kind: str, path: Path) -> list[str]:
    """Prompts that share 300 words behind something that differs; written to `path` as JSONL."""
    rng = random.Random(kind)
    shared = " ".join(rng.choice(WORDS) for _ in range(300))
    prompts = []
    for number in range(48):
        if kind == "time":
            head = f"Now it is 2026-11-{1 + number % 28:02d}T{number % 24:02d}:{number:02d}:17Z."
        else:
            head = f"Request {rng.getrandbits(128):032x}."
        prompts.append(f"{head}\n{shared}\nQuestion {number}: {rng.choice(WORDS)}?")
    lines = (json.dumps({"prompt": prompt, "max_tokens": 8}) for prompt in prompts)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return prompts
