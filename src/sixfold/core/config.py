"""The engine's configuration: frozen values, every field documented, unknown keys refused.

Nothing is filled in later: what a field decides at run time is a new record (`ModelConfig`,
read from the model's files), never a mutation of one of these.
"""

import msgspec

from sixfold.core.errors import ConfigError

BLOCK_SIZE = 32
"""Tokens per KV block: one softmax tile. Fixed, because the kernels' layouts are made of it."""

PARTIAL_SIZE = 512
"""Keys per attention partial: partials start at absolute multiples of it (batch invariance)."""

GROUP_SIZE = 32
"""Weights, and activations, per quantisation scale along K."""

SPECULATIVE = ("off", "ngram", "suffix", "self", "auto", "draft=MODEL")
KV_CACHE_DTYPES = ("auto", "int8")
DTYPES = ("auto", "f32", "bf16", "int8", "int4")
ISA_TIERS = ("generic", "avx2", "avx512_vnni", "avx512_bf16")


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that an engine needs to know but the model's own files. Names are vLLM's."""

    model: str
    """A registry name (smollm2-135m), a directory (safetensors) or a .gguf file."""
    dtype: str = "auto"
    """Weights: auto (the file's own bits; bf16 for hidden sizes below 1024), f32 (for checks),
    bf16, int8 or int4."""
    max_model_len: int = 0
    """Longest prompt + output in tokens; 0 takes the model's own limit, at most 8192."""
    max_num_seqs: int = 64
    """Most requests that run in one step."""
    max_num_batched_tokens: int = 512
    """Token budget of one step, shared by decodes (first) and prefill chunks."""
    kv_cache_memory_mb: int = 0
    """Size of the KV arena in MiB; 0 takes a quarter of the free memory, at most 4096."""
    kv_cache_dtype: str = "auto"
    """What the KV cache holds: auto (bf16; f32 beside f32 weights), or int8 with a scale per token
    and head: twice the tokens in the same memory, half the bytes read per step. Costs less than
    0.2 % of perplexity on SmolLM2 and Gemma 3 (docs/results/performance.md). A model's first start
    with it takes a look at its keys, some seconds."""
    kv_cache: str = "paged"
    """paged (blocks as they are needed), or contiguous (the baseline: max_model_len tokens are
    reserved for each request, and nothing is shared)."""
    attention: str = "flash"
    """flash (tile by tile, scores are never written to memory), or naive (the baseline: all scores
    in memory, then their softmax; sums in another order, so that a close call may differ)."""
    num_kv_blocks: int = 0
    """Exact number of KV blocks (tests, experiments); 0 derives it from kv_cache_memory_mb."""
    enable_prefix_caching: bool = True
    """Reuse KV blocks of equal prefixes, also of prefixes that are being computed."""
    scheduling_policy: str = "fcfs"
    """fcfs, or priority (lower value first, then arrival)."""
    batching: str = "continuous"
    """continuous, static (the baseline: fill a batch, run it to its end), or dynamic (static, but
    wait for company first; for work that ends in one go, such as embeddings)."""
    max_batch_delay_ms: int = 20
    """Most milliseconds that a dynamic batch waits to be filled."""
    interactive_slowdown: float = 0.1
    """Part by which p95 of interactive requests' TTFT and TPOT may get worse because of backfill:
    offline requests that run beside them, in what they leave. Backfill waits as long as interactive
    requests need everything."""
    speculative: str = "off"
    """Guess tokens and check several in one step: off; ngram or suffix (what followed when the
    same tokens came before: in the request, or with suffix in past outputs too); self (the same
    weights in 4 bits guess); draft=MODEL (a smaller model of the same vocabulary does); auto
    (suffix, and self for bf16 weights). Tokens stay the same; how many are guessed follows what it
    costs and gains."""
    num_speculative_tokens: int = 8
    """Most tokens that are guessed at a time for a request."""
    num_threads: int = 0
    """Threads of the native pool; 0 takes what affinity and cgroup allow."""
    isa: str = "auto"
    """Kernel tier: auto, or one of generic, avx2, avx512_vnni, avx512_bf16."""
    autotune: bool = True
    """On the first start on a CPU, try for a second how work is best cut; kept in the cache."""
    executor: str = "native"
    """native, or reference (NumPy: slow, obvious, needs no native module)."""
    kv_offload_dir: str = ""
    """Directory on a local disk for blocks of the KV cache: written as they are computed, loaded
    where that is faster than computing, and found again after a restart."""
    kv_offload_gb: int = 8
    """Most GiB there; the least recently used goes first."""
    kv_offload_ttl_hours: int = 0
    """At the start, forget what was not written to for so long; 0: nothing."""
    kv_offload_ram_mb: int = 0
    """Most MiB for compressed blocks in memory that lost their place in the KV cache. On a CPU that
    is memory beside memory: worth it only as far as blocks compress (bf16: by about a quarter)."""
    kv_events: str = ""
    """Address (tcp://127.0.0.1:5557) at which blocks of the prefix cache are told of as they come
    and go, over ZeroMQ in vLLM's format: for routers. Names the tokens of prompts."""
    kv_events_replay: str = ""
    """Address at which who has missed such events may ask for them again."""
    trace_file: str = ""
    """Write a timeline of steps and requests there, for Perfetto or chrome://tracing."""
    seed: int = 0
    """Seeds requests that bring none."""
    cache_dir: str = ""
    """Where packed weights are kept; empty takes $SIXFOLD_HOME or ~/.cache/sixfold."""

    def __post_init__(self) -> None:
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("kv_cache_dtype", self.kv_cache_dtype, KV_CACHE_DTYPES)
        _one_of("scheduling_policy", self.scheduling_policy, ("fcfs", "priority"))
        _one_of("batching", self.batching, ("continuous", "static", "dynamic"))
        _one_of("attention", self.attention, ("flash", "naive"))
        if self.attention == "naive" and self.kv_cache_dtype == "int8":
            raise ConfigError("naive attention reads no 8-bit cache", "leave one of them out")
        _one_of("kv_cache", self.kv_cache, ("paged", "contiguous"))
        _one_of("isa", self.isa, ("auto", *ISA_TIERS))
        _one_of("executor", self.executor, ("native", "reference"))
        if not self.speculative.startswith("draft=") or self.speculative == "draft=":
            _one_of("speculative", self.speculative, SPECULATIVE)
        if not 0.0 <= self.interactive_slowdown <= 100.0:
            raise ConfigError(
                f"interactive_slowdown is {self.interactive_slowdown}, but must be in [0, 100]"
            )
        for name, low, high in (
            ("max_model_len", 0, 1 << 20),
            ("num_speculative_tokens", 1, 64),
            ("max_batch_delay_ms", 0, 60_000),
            ("kv_offload_gb", 1, 1 << 20),
            ("kv_offload_ttl_hours", 0, 1 << 20),
            ("kv_offload_ram_mb", 0, 1 << 24),
            ("max_num_seqs", 1, 4096),
            ("max_num_batched_tokens", 1, 65536),
            ("kv_cache_memory_mb", 0, 1 << 24),
            ("num_kv_blocks", 0, 1 << 24),
            ("num_threads", 0, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}, but must be in [{low}, {high}]")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}", f"choose one of: {', '.join(known)}")


class RopeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Rotary embedding: base `theta`, linear factor, or Llama 3's piecewise scaling.

    `style` is neox: halves (d, d + D/2) are rotated together, as in Hugging Face weights.
    """

    theta: float = 10000.0
    linear_factor: float = 1.0
    llama3: tuple[float, float, float, int] | None = None
    """(factor, low_freq_factor, high_freq_factor, original_max_position_embeddings)."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A model's shape, read from config.json or GGUF metadata. Legend: E H KH D F V."""

    architecture: str
    """llama, qwen2, qwen3 or gemma3."""
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    tie_word_embeddings: bool
    rope: RopeConfig
    rope_local: RopeConfig | None = None
    """Rotary embedding of sliding-window layers where it differs (Gemma 3)."""
    sliding_window: int | None = None
    """Keys that a sliding layer's query sees, itself included."""
    sliding_layers: tuple[bool, ...] = ()
    """Per layer: True where the window applies; empty means nowhere."""
    attention_bias: bool = False
    attention_scale: float = 0.0
    """Multiplies scores; 0 means 1 / sqrt(head_dim)."""
    embedding_scale: float = 1.0
    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    default_dtype: str = "bf16"
    """What dtype=auto means for these files (int4 for 4-bit GGUF, bf16 for safetensors ...)."""
    name: str = ""


class KVGroup(msgspec.Struct, frozen=True):
    """Layers that share block tables: all see everything, or all see the last `window` keys."""

    num_layers: int
    window: int | None
