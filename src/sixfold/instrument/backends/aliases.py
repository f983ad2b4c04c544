"""Names of metrics: canonical, and what each engine calls them. Not here: reading (scrape.py).

A counter's `_total` may be left out on either side: scrape.py tries both. `name{label=value}` takes
only the lines with that label.
"""

COUNTERS = (
    "prompt_tokens",
    "generation_tokens",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "num_preemptions",
    "spec_drafted",
    "spec_accepted",
    "prompt_tokens_computed",
    "rejections",
    "prompt_seconds",
    "generation_seconds",
)
"""Tokens, requests for num_preemptions and rejections (503s), seconds of work; since the start."""
GAUGES = (
    "num_requests_running",
    "num_requests_waiting",
    "num_requests_swapped",
    "num_grammar_waiting",
    "kv_cache_usage",
    "prefix_hit_rate",
    "prompt_rate",
    "generation_rate",
    "kv_pool_tokens",
)
"""Requests; fractions of 0 to 1 (the hit rate is of the engine's last interval); tokens per second;
tokens that the KV cache has room for."""
FULLEST = ("kv_cache_usage",)
"""Of several pools and replicas, the fullest counts."""
MEANS = ("prefix_hit_rate",)
"""Of several replicas, the mean counts; other metrics are added up."""

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
    "num_requests_swapped": ("vllm:num_requests_swapped",),
    "prompt_rate": ("vllm:avg_prompt_throughput_toks_per_s",),
    "generation_rate": ("vllm:avg_generation_throughput_toks_per_s",),
    "rejections": ("vllm:admission_rejections",),
}
"""Swapped requests and rates are from before its version 1; its pool is in labels: POOL_LABELS."""
POOL_LABELS = ("vllm:cache_config_info", "kv_cache_size_tokens", ("num_gpu_blocks", "block_size"))
"""The metric whose labels tell the pool: its tokens, or else the factors of them."""
SGLANG: dict[str, tuple[str, ...]] = {
    "num_requests_running": ("sglang:num_running_reqs",),
    "num_requests_waiting": ("sglang:num_queue_reqs",),
    "num_grammar_waiting": ("sglang:num_grammar_queue_reqs",),
    "kv_cache_usage": ("sglang:token_usage", "sglang:swa_token_usage", "sglang:mamba_usage"),
    "kv_pool_tokens": ("sglang:max_total_num_tokens",),
    "prefix_cache_queries": ("sglang:prompt_tokens",),
    "prefix_cache_hits": ("sglang:cached_tokens", "sglang:realtime_tokens{mode=prefill_cache}"),
    "prefix_hit_rate": ("sglang:cache_hit_rate",),
    "prompt_tokens": ("sglang:prompt_tokens",),
    "prompt_tokens_computed": ("sglang:realtime_tokens{mode=prefill_compute}",),
    "generation_tokens": ("sglang:generation_tokens", "sglang:realtime_tokens{mode=decode}"),
    "generation_rate": ("sglang:gen_throughput",),
    "num_preemptions": ("sglang:num_retracted_requests", "sglang:num_retracted_reqs"),
}
"""Speculation is told as gauges of the last interval only: no counters to map."""
LLAMACPP: dict[str, tuple[str, ...]] = {
    "num_requests_running": ("llamacpp:requests_processing",),
    "num_requests_waiting": ("llamacpp:requests_deferred",),
    "kv_cache_usage": ("llamacpp:kv_cache_usage_ratio",),
    "prompt_tokens": ("llamacpp:prompt_tokens",),
    "generation_tokens": ("llamacpp:tokens_predicted",),
    "prompt_seconds": ("llamacpp:prompt_seconds",),
    "generation_seconds": ("llamacpp:tokens_predicted_seconds",),
    "prompt_rate": ("llamacpp:prompt_tokens_seconds",),
    "generation_rate": ("llamacpp:predicted_tokens_seconds",),
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
HISTOGRAMS: dict[str, tuple[str, ...]] = {
    "ttft": ("vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds"),
    "queue": ("vllm:request_queue_time_seconds", "sglang:queue_time_seconds"),
    "prefill": ("vllm:request_prefill_time_seconds",),
    "itl": (
        "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds",
        "sglang:inter_token_latency_seconds",
        "sglang:time_per_output_token_seconds",
    ),
    "tpot": (
        "vllm:request_time_per_output_token_seconds",
        "sglang:request_time_per_output_token_seconds",
    ),
    "e2e": ("vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds"),
}
"""Histograms of seconds. The older "time per output token" is a histogram of gaps: itl."""
TOKEN_HISTOGRAMS: dict[str, tuple[str, ...]] = {
    "step": ("vllm:iteration_tokens_total",),
    "prompt": ("vllm:request_prompt_tokens", "sglang:prompt_tokens_histogram"),
    "output": ("vllm:request_generation_tokens", "sglang:generation_tokens_histogram"),
}
"""Histograms of tokens: of a step, of a request's prompt and answer."""
