"""Names of metrics: canonical, and what each engine calls them. Not here: reading (scrape.py).

A counter's `_total` may be left out on either side: scrape.py tries both.
"""

COUNTERS = (
    "prompt_tokens",
    "generation_tokens",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "num_preemptions",
    "spec_drafted",
    "spec_accepted",
)
"""Tokens, or requests for num_preemptions; since the server's start."""
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage")
"""Requests, and a fraction of 0 to 1."""

VLLM: dict[str, tuple[str, ...]] = {
    "num_requests_running": ("vllm:num_requests_running",),
    "num_requests_waiting": ("vllm:num_requests_waiting",),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    "prefix_cache_queries": ("vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"),
    "prefix_cache_hits": ("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
    "prompt_tokens": ("vllm:prompt_tokens",),
    "generation_tokens": ("vllm:generation_tokens",),
    "num_preemptions": ("vllm:num_preemptions",),
    "spec_drafted": ("vllm:spec_decode_num_draft_tokens",),
    "spec_accepted": ("vllm:spec_decode_num_accepted_tokens",),
}
SGLANG: dict[str, tuple[str, ...]] = {
    "num_requests_running": ("sglang:num_running_reqs",),
    "num_requests_waiting": ("sglang:num_queue_reqs",),
    "kv_cache_usage": ("sglang:token_usage",),
    "prefix_cache_queries": ("sglang:prompt_tokens",),
    "prefix_cache_hits": ("sglang:cached_tokens",),
    "prompt_tokens": ("sglang:prompt_tokens",),
    "generation_tokens": ("sglang:generation_tokens",),
    "num_preemptions": ("sglang:num_retracted_requests", "sglang:num_retracted_reqs"),
}
"""Speculation is told as gauges of the last interval only: no counters to map."""
LLAMACPP: dict[str, tuple[str, ...]] = {
    "num_requests_running": ("llamacpp:requests_processing",),
    "num_requests_waiting": ("llamacpp:requests_deferred",),
    "kv_cache_usage": ("llamacpp:kv_cache_usage_ratio",),
    "prompt_tokens": ("llamacpp:prompt_tokens",),
    "generation_tokens": ("llamacpp:tokens_predicted",),
    "spec_drafted": ("llamacpp:tokens_drafted", "llamacpp:spec_decode_num_draft_tokens"),
    "spec_accepted": (
        "llamacpp:tokens_drafted_accepted",
        "llamacpp:spec_decode_num_accepted_tokens",
    ),
}
"""Its prompt tokens are those computed, without what came from the cache."""
ANY: dict[str, tuple[str, ...]] = {
    name: (*VLLM.get(name, ()), *SGLANG.get(name, ()), *LLAMACPP.get(name, ()))
    for name in (*GAUGES, *COUNTERS)
}
"""For servers of an unknown kind."""
