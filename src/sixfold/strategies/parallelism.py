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
    pays="Latency matters and the link between workers is fast.",
    not_when="The link is slow: two exchanges per layer eat the gain.",
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
    pays="Slow links and batches enough to fill the pipeline.",
    not_when="Few requests: workers wait for each other, and TPOT does not fall.",
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
)
CARDS = (DATA, TENSOR, PIPELINE, EXPERT, HYBRID)
