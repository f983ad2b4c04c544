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
    pays=(
        "Long prompts arrive while others read along (Sarathi-Serve, 2024: 2.6 times the load that "
        "vLLM carried then, Mistral-7B on one A100)."
    ),
    not_when="Requests run alone, or only the end of the job counts.",
    costs=(
        "TTFT of the long prompt, which takes several steps, each of which reads the keys and "
        "values of the earlier ones again. The budget is a choice: too small, and arithmetic "
        "idles; too large, and memory goes (vLLM pull request 48322, RTX 4090, Qwen3-8B: from "
        "2048 to 8192 tokens the KV pool shrank by 10 % and TTFT p99 rose by 71 %)."
    ),
    stage=1,
    relieves=("inter-token latency", "throughput"),
    answers={
        "tail latency jumps": (
            "When ITL p99 jumps with each long prompt while p50 stays: a step then takes what its "
            "token budget says. It comes before disaggregation: one server and one flag do it."
        ),
    },
    implemented="sixfold.engine.scheduler.scheduler.Scheduler",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
SPECULATIVE = Card(
    name="speculative decoding",
    family="prefill and decode",
    what=(
        "A small draft model, or what followed when the same tokens came before, proposes several "
        "tokens; the model checks them in one step and keeps those it would have sampled "
        "(Leviathan et al., 2023)."
    ),
    knobs={
        "sixfold": Knob("--speculative auto", "--speculative off"),
        "vllm": Knob("--speculative-config", ""),
        "sglang": Knob("--speculative-algorithm", ""),
        "llamacpp": Knob("--spec-draft-model", ""),
    },
    bottleneck="Memory bandwidth of decoding: the weights are read once per token.",
    symptom="TPOT near weight bytes / memory bandwidth while arithmetic idles.",
    metric="TPOT, acceptance rate",
    pays=(
        "Few requests at a time, a draft that agrees often: 2 to 3 times the speed from 5 proposed "
        "tokens of which each is accepted with 0.6 or more (LLM Inference Handbook, synthetic); "
        "here, SmolLM2 in bf16 on 2 cores, 3.2 times on copied text and 1.7 on chat, one at a time."
    ),
    not_when=(
        "Large batches: arithmetic is busy already, and rejected tokens waste it (Llama-3.3-70B on "
        "one H100: no more throughput beyond 20 to 30 at once, says the same handbook). Nor on top "
        "of much tensor parallelism: it took one GPU from 21 to 30 tok/s, but four from 61 to 59 "
        "(SGLang issue 6949). Here chat gains 1.14 with 16 at once; drawn text loses 2 to 4 %."
    ),
    costs=(
        "Memory for the draft's weights and cache, which the KV pool loses; arithmetic for what is "
        "rejected. With acceptance a and k proposed tokens a step yields "
        "(1 - a^(k+1)) / (1 - a) tokens: if it takes longer by more than that factor, it loses."
    ),
    stage=2,
    relieves=("inter-token latency",),
    answers={
        "decode slows as conversations grow": (
            "When few conversations run and each token waits for memory: checking several tokens "
            "reads weights and cache once. With many at once it makes things worse."
        ),
    },
    implemented="sixfold.engine.speculative.speculator.Speculator",
    equality_test=(
        "tests/engine/test_speculation.py::test_all_ways_to_sample_give_what_they_give_without"
    ),
    benchmark="benchmarks/speculation.py",
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
    pays=(
        "Tight limits on both TTFT and ITL, long prompts that no cache holds, and machines enough "
        "to part the work (DistServe, 2024: 7.4 times the requests within the same limits; "
        "Splitwise, 2024: 20 % lower cost)."
    ),
    not_when=(
        "One machine, short prompts, or a slow link: chunked prefill does it cheaper. The transfer "
        "and one decode step must take less than the interference they save: eight H200 split in "
        "two halves were worse in all respects than undivided (Dynamo issue 3774)."
    ),
    costs=(
        "A second pool of workers, which idles when the mix of prompts and answers shifts, and the "
        "transfer of each prompt's KV cache between engines whose layouts must match: 20 to 30 % "
        "slower where the load is small or the split is wrong (LLM Inference Handbook)."
    ),
    stage=5,
    relieves=("inter-token latency", "first-token latency", "cost"),
    answers={
        "tail latency jumps": (
            "When chunked prefill is on, and ITL p99 still jumps with long uncached prompts: they "
            "are computed elsewhere."
        ),
        "TTFT spikes at peak": (
            "When prompts wait behind decoding, and prefill needs more workers than decoding: each "
            "phase then grows by itself."
        ),
    },
)
CARDS = (CHUNKED, SPECULATIVE, DISAGGREGATION)
