"""Family 2, prefill and decode: two phases with different limits. Cards only."""

from sixfold.strategies.card import Card, Knob

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
CARDS = (SPECULATIVE, DISAGGREGATION)
