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
        "sixfold": Knob(""),
        "vllm": Knob("--attention-backend FLASH_ATTN"),
        "sglang": Knob("--attention-backend fa3", "--attention-backend torch_native"),
        "llamacpp": Knob("--flash-attn on", "--flash-attn off"),
    },
    bottleneck="Memory traffic of scores, quadratic in the prompt's length.",
    symptom="Prefill slows faster than linearly with the prompt.",
    metric="prefill tokens per second at long prompts, peak memory",
    pays="Always; most at long prompts.",
    not_when="Prompts of a few dozen tokens gain little.",
    implemented="sixfold.engine.kernels.ops.NativeModel",
    equality_test="tests/engine/kernels/test_attention.py::test_session_equals_reference",
)
PAGED = Card(
    name="PagedAttention",
    family="attention and memory",
    what=(
        "Keeps keys and values in blocks of 32 tokens that need not lie together; a block table "
        "per request finds them (Kwon et al., 2023)."
    ),
    knobs={
        "sixfold": Knob(""),
        "vllm": Knob(""),
        "sglang": Knob("--page-size"),
    },
    bottleneck="Memory reserved for the longest possible answer of every request.",
    symptom="Few requests fit although most of the KV memory is never written.",
    metric="requests running at once, KV cache usage",
    pays="Always in serving: lengths are unknown, and blocks can be shared.",
    not_when="One request of known length: contiguous memory is simpler.",
    implemented="sixfold.engine.kvcache.manager.KVCacheManager",
    equality_test="tests/engine/kernels/test_attention.py::test_shared_and_recycled_blocks",
)
CARDS = (FLASH, PAGED)
