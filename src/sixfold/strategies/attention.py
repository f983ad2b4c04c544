"""Family 4, attention and memory: how keys and values are read, and how they lie. Cards only."""

from sixfold.strategies.card import Card, Knob

FLASH = Card(
    name="FlashAttention",
    family="attention and memory",
    what=(
        "Computes attention tile by tile with a running softmax, so that the matrix of scores is "
        "never written to memory (Dao et al., 2022)."
    ),
    knobs={
        "sixfold": Knob("--attention flash", "--attention naive", True),
        "vllm": Knob("--attention-backend FLASH_ATTN"),
        "sglang": Knob("--attention-backend fa3", "--attention-backend torch_native"),
        "llamacpp": Knob("--flash-attn on", "--flash-attn off"),
    },
    bottleneck="Memory traffic of scores, quadratic in the prompt's length.",
    symptom="Prefill slows faster than linearly with the prompt.",
    metric="prefill tokens per second at long prompts, peak memory",
    pays=(
        "Always; most at long prompts (attention 2 to 4 times faster: LLM Inference Handbook; here "
        "3.9 to 4 times from 512 to 8,192 tokens, in 701 instead of 3,196 MB at 8,192)."
    ),
    not_when="Prompts of a few dozen tokens gain little.",
    costs=(
        "Complexity only: a kernel of its own for each kind of device, number format and head "
        "size, and not every combination has one."
    ),
    stage=0,
    relieves=("throughput", "first-token latency", "inter-token latency"),
    answers={
        "decode slows as conversations grow": (
            "When TPOT grows with the context: each token reads all keys and values, here once, in "
            "parallel, and without scores in memory (Flash-Decoding, 2023: up to 8 times end to "
            "end at 64k tokens). The read itself stays, and grows with the context; sixfold reads "
            "a prefix that requests share once for all of them, and half the bytes with "
            "--kv-cache-dtype int8."
        ),
    },
    implemented="sixfold.engine.kernels.ops.NativeModel",
    equality_test="tests/engine/kernels/test_attention.py::test_session_equals_reference",
    benchmark="benchmarks/attention.py",
)
PAGED = Card(
    name="PagedAttention",
    family="attention and memory",
    what=(
        "Keeps keys and values in blocks of 32 tokens that need not lie together; a block table "
        "per request finds them (Kwon et al., 2023)."
    ),
    knobs={
        "sixfold": Knob("--kv-cache paged", "--kv-cache contiguous", True),
        "vllm": Knob(""),
        "sglang": Knob("--page-size"),
    },
    bottleneck="Memory reserved for the longest possible answer of every request.",
    symptom="Few requests fit although most of the KV memory is never written.",
    metric="requests running at once, KV cache usage",
    pays=(
        "Always in serving: lengths are unknown, and blocks can be shared (before it, 20.4 to "
        "38.2 % of KV memory held tokens, says the paper). Of requests that use 128 or 1,024 of "
        "2,048 reserved tokens, 4.4 or 2 times as many run at once here."
    ),
    not_when=(
        "One request of known length: contiguous memory is simpler. Of requests that use all that "
        "would be reserved, as many run at once."
    ),
    costs=(
        "A block table per request that the attention kernel has to follow, and at most one block "
        "per request that is not full."
    ),
    stage=0,
    relieves=("concurrency", "throughput"),
    answers={
        "KV cache pressure": (
            "When requests wait although much of the KV memory is reserved and never written. If "
            "it is paged already, look to the other answers, lower the cap on running requests, or "
            "keep the cache in 8 bits (--kv-cache-dtype): twice the tokens in the same memory."
        ),
    },
    implemented="sixfold.engine.kvcache.manager.KVCacheManager",
    equality_test="tests/engine/kernels/test_attention.py::test_shared_and_recycled_blocks",
    benchmark="benchmarks/strategies.py",
)
CARDS = (FLASH, PAGED)
