"""Family 2, prefill and decode: two phases with different limits. Cards only."""

from sixfold.strategies.card import Card, Knob

CHUNKED = Card(
    name="chunked prefill",
    family="prefill and decode",
    what=(
        "Cuts long prompts to what is left of a step's token budget after the running requests "
        "have had their next tokens (Agrawal et al., 2023). A budget that holds any prompt "
        "turns it off."
    ),
    knobs={
        "sixfold": Knob("--max-num-batched-tokens 512", "--max-num-batched-tokens 8192", True),
        "vllm": Knob("--enable-chunked-prefill", "--no-enable-chunked-prefill", True),
        "sglang": Knob("", "--chunked-prefill-size -1"),
        "llamacpp": Knob(""),
    },
    bottleneck="Interference: a long prompt computed in one step delays everybody's next token.",
    symptom="ITL p99 is many times p50 whenever a long prompt arrives.",
    metric="ITL p99",
    pays="Long prompts arrive while others read along.",
    not_when="Requests run alone, or only the end of the job counts.",
    implemented="sixfold.engine.scheduler.scheduler.Scheduler",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
SPECULATIVE = Card(
    name="speculative decoding",
    family="prefill and decode",
    what=(
        "A small draft model proposes several tokens; the model checks them in one step and keeps "
        "those it would have sampled (Leviathan et al., 2023)."
    ),
    knobs={
        "vllm": Knob("--speculative-config", ""),
        "sglang": Knob("--speculative-algorithm", ""),
        "llamacpp": Knob("--spec-draft-model", ""),
    },
    bottleneck="Memory bandwidth of decoding: the weights are read once per token.",
    symptom="TPOT near weight bytes / memory bandwidth while arithmetic idles.",
    metric="TPOT, acceptance rate",
    pays="Few requests at a time, a draft model that agrees often.",
    not_when="Large batches: arithmetic is busy already, and rejected tokens waste it.",
)
DISAGGREGATION = Card(
    name="prefill-decode disaggregation",
    family="prefill and decode",
    what="Runs prompts on one engine and decoding on another; the KV cache moves between them.",
    knobs={
        "vllm": Knob("--kv-transfer-config", ""),
        "sglang": Knob("--disaggregation-mode prefill", "--disaggregation-mode null"),
    },
    bottleneck="Interference: a prompt's compute delays everybody's next token.",
    symptom="ITL p99 far above p50 while prompts are long and many.",
    metric="ITL p99, goodput",
    pays="Tight limits on both TTFT and ITL, and machines enough to part the work.",
    not_when="One machine, short prompts, or a slow link: chunked prefill does it cheaper.",
)
CARDS = (CHUNKED, SPECULATIVE, DISAGGREGATION)
