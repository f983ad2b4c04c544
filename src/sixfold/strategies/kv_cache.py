"""Family 3, KV cache: computing nothing twice, and where to send who. Cards only."""

from sixfold.strategies.card import Card, Knob

PREFIX_CACHING = Card(
    name="prefix caching",
    family="KV cache",
    what=(
        "Keeps the KV blocks of finished prefixes under a hash of their tokens; a request that "
        "begins alike takes them over, also from one that still computes them."
    ),
    knobs={
        "sixfold": Knob("--enable-prefix-caching", "--no-enable-prefix-caching", True),
        "vllm": Knob("--enable-prefix-caching", "--no-enable-prefix-caching", True),
        "sglang": Knob("", "--disable-radix-cache"),
        "llamacpp": Knob("--cache-prompt", "--no-cache-prompt", True),
    },
    bottleneck="Arithmetic of prefill, spent again on the same system prompt or history.",
    symptom="TTFT grows with a prompt whose beginning many requests share.",
    metric="TTFT, prefix cache hits / queries",
    pays=(
        "Shared system prompts, conversations, few-shot examples, agents (whose input may be 100 "
        "times their output). TTFT of 32 requests at once is 1.06, 1.4, 1.7 and 6 times shorter "
        "here with 10, 25, 50 and 94 % of 1,088 tokens in common."
    ),
    not_when=(
        "Prompts have nothing in common: it then costs a hash per block, and little else (2 % of "
        "TTFT here)."
    ),
    costs=(
        "A hash per block of each prompt. Kept blocks use only room that running requests leave. "
        "TTFT tells whether a prefix was known, so tenants of one server should be parted "
        "(cache_salt)."
    ),
    stage=1,
    relieves=("first-token latency", "cost", "throughput"),
    answers={
        "TTFT spikes at peak": (
            "When prompts begin alike: only what differs is computed. Exact beginnings count, so "
            "what is fixed belongs first, and dates, names and questions last."
        ),
        "KV cache pressure": (
            "When running requests share a long beginning: its blocks are there once for all."
        ),
        "decode slows as conversations grow": (
            "When it is the pause before each reply that grows, not the pace of its tokens: the "
            "history is then found in the cache."
        ),
    },
    implemented="sixfold.engine.kvcache.prefix_cache.PrefixCache",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
PREFIX_ROUTING = Card(
    name="prefix-aware routing",
    family="KV cache",
    what="Sends a request to the replica that holds most of its prefix.",
    knobs={"sglang": Knob("--policy cache_aware", "--policy round_robin")},
    bottleneck="Prefill repeated on every replica, since each has only its own cache.",
    symptom="Hit rate falls as replicas are added.",
    metric="TTFT, prefix cache hits / queries over all replicas",
    pays=(
        "Several replicas, long prefixes shared by part of the traffic (Preble, 2025: mean latency "
        "1.5 to 14.5 times lower)."
    ),
    not_when=(
        "One prefix serves everybody (each replica has it), prompts are short, traffic is low, or "
        "there is one replica."
    ),
    costs=(
        "A router that knows who holds what, and may be wrong about it after evictions. Popular "
        "prefixes pile load on one replica: a hit on a full one can be slower than a miss, so "
        "hits have to be weighed against load."
    ),
    stage=4,
    relieves=("first-token latency", "throughput"),
    answers={
        "TTFT spikes at peak": (
            "When the hit rate fell as replicas were added: round robin over N of them picks the "
            "one that holds a prefix once in N times."
        ),
        "tail latency jumps": (
            "When the slow requests are those that met a replica without their prefix (Preble, "
            "2025: p99 2 to 10 times lower)."
        ),
    },
)
KV_AWARE = Card(
    name="KV-utilisation-aware load balancing",
    family="KV cache",
    what="Sends a request to the replica whose KV cache and queue have room for it.",
    knobs={"sglang": Knob("--policy power_of_two", "--policy round_robin")},
    bottleneck="Preemption and queueing on a full replica while another has room.",
    symptom="Preemptions on some replicas only; TTFT p99 far above p50.",
    metric="preemptions, TTFT p99",
    pays="Requests of very different lengths over several replicas.",
    not_when="Requests are alike: round robin is as good.",
    costs=(
        "A router that asks each replica for its state: figures that are old send everybody to "
        "the same one. Sent by room alone, requests lose the replica that has their prefix."
    ),
    stage=4,
    relieves=("concurrency", "first-token latency"),
    answers={
        "KV cache pressure": (
            "When one replica preempts or queues while another has room. Signs in use: KV usages "
            "0.30 apart, or twice as many running on one as on another."
        ),
        "tail latency jumps": (
            "When p99 is made of requests that waited or were preempted on one full replica, while "
            "p50 is fine."
        ),
    },
)
OFFLOAD = Card(
    name="KV offloading",
    family="KV cache",
    what=(
        "Keeps KV blocks outside the cache, on disk or compressed in memory, and loads them on a "
        "hit where that is faster than computing."
    ),
    knobs={
        "sixfold": Knob("--kv-offload-dir kv-blocks", ""),
        "vllm": Knob("--kv-offloading-size", ""),
        "sglang": Knob("--enable-hierarchical-cache", ""),
        "llamacpp": Knob("--cache-ram 8192", "--cache-ram 0", True),
    },
    bottleneck="Capacity of the KV cache: prefixes are evicted before they are used again.",
    symptom="Hit rate far below the traffic's share of repeated prefixes.",
    metric="prefix cache hits / queries, TTFT",
    pays=(
        "Long conversations that pause; prefixes that cost more to compute than to read "
        "(CachedAttention, 2024: TTFT down by 87 % over many turns). Here a disk whose pages are "
        "not in memory gives back 128 tokens 2.8 times faster than they are computed, 2,048 tokens "
        "19 times."
    ),
    not_when=(
        "The cache holds the working set: only the overhead is left (LMCache issue 1109). Or "
        "reading is slower than computing: a prefix's bytes over the link's speed must be less "
        "than its prefill takes."
    ),
    costs=(
        "RAM or disk, the link to it, and copies that are made whether or not they are used again "
        "(LMCache issue 970: from 14.68 down to 13.13 requests/s with 500 GB of cache)."
    ),
    stage=2,
    relieves=("first-token latency", "concurrency", "cost"),
    answers={
        "KV cache pressure": (
            "When idle conversations and prefixes are evicted and come back: the working set is "
            "larger than the pool. It makes no room for requests that run."
        ),
        "TTFT spikes at peak": (
            "When TTFT rises at peak because the hit rate falls: what the peak evicts is read back "
            "instead of computed again."
        ),
    },
    implemented="sixfold.engine.offload.offloader.Offloader",
    equality_test="tests/engine/test_offload.py::test_tokens_are_the_same_and_blocks_come_back",
    benchmark="benchmarks/offload.py",
)
CARDS = (PREFIX_CACHING, PREFIX_ROUTING, KV_AWARE, OFFLOAD)
