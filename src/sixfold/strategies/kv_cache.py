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
    pays="Shared system prompts, conversations, few-shot examples, agents.",
    not_when="Prompts have nothing in common: it then costs a hash per block, and little else.",
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
    pays="Several replicas, prefixes shared by part of the traffic.",
    not_when="One prefix serves everybody (each replica has it), or one replica.",
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
)
OFFLOAD = Card(
    name="KV offloading",
    family="KV cache",
    what="Moves KV blocks that fall out of the cache to RAM or disk, and back on a hit.",
    knobs={
        "vllm": Knob("--kv-offloading-size", ""),
        "sglang": Knob("--enable-hierarchical-cache", ""),
        "llamacpp": Knob("--cache-ram 8192", "--cache-ram 0", True),
    },
    bottleneck="Capacity of the KV cache: prefixes are evicted before they are used again.",
    symptom="Hit rate far below the traffic's share of repeated prefixes.",
    metric="prefix cache hits / queries, TTFT",
    pays="Long conversations that pause; prefixes that cost more to compute than to read.",
    not_when="The cache holds the working set, or reading is slower than computing.",
)
CARDS = (PREFIX_CACHING, PREFIX_ROUTING, KV_AWARE, OFFLOAD)
