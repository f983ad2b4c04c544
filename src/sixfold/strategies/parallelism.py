"""Family 5, parallelism: one model or many copies over several workers. Cards only."""

from sixfold.strategies.card import Card, Knob

DATA = Card(
    name="data parallelism",
    family="parallelism",
    what="Runs whole copies of the model; each takes a part of the requests.",
    knobs={
        "vllm": Knob("--data-parallel-size", "--data-parallel-size 1"),
        "sglang": Knob("--dp-size", "--dp-size 1"),
    },
    bottleneck="One engine's compute and bandwidth.",
    symptom="The queue grows while every step is full.",
    metric="requests per second",
    pays="The model fits one worker and there are requests enough for several.",
    not_when="Latency of one request is what counts, or memory holds one copy only.",
    costs=(
        "All weights once more per copy. Each has a KV cache of its own: unless a router knows "
        "prefixes, N copies find a prefix that one of them holds once in N times."
    ),
    stage=3,
    relieves=("throughput", "concurrency", "first-token latency"),
    answers={
        "which parallelism?": (
            "When the model fits one worker with room for its KV cache, and requests are many: "
            "copies exchange nothing, so this comes first."
        ),
        "TTFT spikes at peak": (
            "When every step is full, the queue grows, and prefixes are found as they should be: "
            "one engine's arithmetic is used up."
        ),
    },
)
TENSOR = Card(
    name="tensor parallelism",
    family="parallelism",
    what="Cuts every matrix over the workers, which exchange partial sums in each layer.",
    knobs={
        "vllm": Knob("--tensor-parallel-size", "--tensor-parallel-size 1"),
        "sglang": Knob("--tp-size", "--tp-size 1"),
        "llamacpp": Knob("--split-mode row", "--split-mode none"),
    },
    bottleneck="Bandwidth and memory of one worker.",
    symptom="TPOT near one worker's bandwidth limit, or the model does not fit.",
    metric="TPOT",
    pays="The model does not fit, or latency matters, and the link between workers is fast.",
    not_when=(
        "The link is slow: two exchanges per layer eat the gain. Or the model fits one worker "
        "and only throughput counts: copies exchange nothing."
    ),
    costs=(
        "Two exchanges per layer in every step, so throughput per worker falls as workers are "
        "added: four L4 served 2.7 times the requests of one (AWS, Qwen3-4B)."
    ),
    stage=3,
    relieves=("model scale", "inter-token latency", "concurrency"),
    answers={
        "which parallelism?": (
            "When the model does not fit one worker, or one request has to be faster, and the "
            "workers share a machine with fast links."
        ),
        "KV cache pressure": (
            "When weights leave too little room for the cache: each worker holds a part of them, "
            "and the rest becomes cache."
        ),
        "decode slows as conversations grow": (
            "When TPOT grows with the context and links are fast: heads are split, so each worker "
            "reads only its part of the weights, keys and values."
        ),
    },
)
PIPELINE = Card(
    name="pipeline parallelism",
    family="parallelism",
    what="Gives each worker a run of layers; steps flow through them.",
    knobs={
        "vllm": Knob("--pipeline-parallel-size", "--pipeline-parallel-size 1"),
        "sglang": Knob("--pp-size", "--pp-size 1"),
        "llamacpp": Knob("--split-mode layer", "--split-mode none"),
    },
    bottleneck="Memory of one worker.",
    symptom="The model does not fit, and the link is too slow for tensor parallelism.",
    metric="tokens per second",
    pays=(
        "Slow links and batches enough to fill the pipeline; equal chunks of prefill keep it full "
        "(SARATHI, 2023: 6.29 times fewer bubbles, GPT-3)."
    ),
    not_when="Few requests: workers wait for each other, and TPOT does not fall.",
    costs=(
        "Latency: a token passes all stages one after the other; and bubbles, where too few "
        "requests or unequal chunks leave stages idle."
    ),
    stage=5,
    relieves=("model scale", "throughput"),
    answers={
        "which parallelism?": (
            "When the model does not fit one machine, or links are slow: only activations travel, "
            "at the borders between stages. Tensor parallelism inside machines, this across them."
        ),
        "KV cache pressure": (
            "When weights leave too little room for the cache, and links are too slow for tensor "
            "parallelism."
        ),
    },
)
EXPERT = Card(
    name="expert parallelism",
    family="parallelism",
    what="Spreads the experts of a mixture-of-experts model over workers; tokens go to theirs.",
    knobs={
        "vllm": Knob("--enable-expert-parallel", ""),
        "sglang": Knob("--ep-size", "--ep-size 1"),
    },
    bottleneck="Memory and bandwidth of all experts on each worker.",
    symptom="Expert weights dominate memory while each token uses few of them.",
    metric="tokens per second, balance of tokens over experts",
    pays="Large mixture-of-experts models with large batches.",
    not_when="Dense models; small batches, where the exchange costs more than it saves.",
    costs=(
        "An exchange with all workers before and after each layer of experts, and balance: the "
        "worker with the most wanted experts sets the pace."
    ),
    stage=5,
    relieves=("model scale", "throughput"),
    answers={
        "which parallelism?": (
            "When the model is a mixture of experts whose experts fill the memory, and batches are "
            "large: whole experts are dealt out instead of slices of each."
        ),
    },
)
HYBRID = Card(
    name="hybrid parallelism",
    family="parallelism",
    what="Combines the others: copies of a pipeline of tensor-parallel stages, and the like.",
    knobs={
        "vllm": Knob("--tensor-parallel-size 2 --pipeline-parallel-size 2"),
        "sglang": Knob("--tp-size 2 --dp-size 2"),
    },
    bottleneck="Whatever one kind alone leaves: links inside a machine are fast, others slow.",
    symptom="One kind stops scaling before the machines are used up.",
    metric="goodput per worker",
    pays="Many workers with links of unlike speed.",
    not_when="One kind suffices: each adds its own overhead.",
    costs=(
        "A space of layouts that has to be searched again when traffic changes: the best one for "
        "one trace was up to 2 times worse on another (Vidur, 2024)."
    ),
    stage=5,
    relieves=("model scale", "throughput"),
    answers={
        "which parallelism?": (
            "When one kind stops scaling before the machines are used up: tensor parallelism "
            "where links are fast, pipelines across machines, copies of the whole for more load."
        ),
    },
)
CARDS = (DATA, TENSOR, PIPELINE, EXPERT, HYBRID)
