"""Family 1, batching: which requests share a step. Cards only."""

from sixfold.strategies.card import Card, Knob

STATIC = Card(
    name="static batching",
    family="batching",
    what="Fills a batch, runs it to its last request's end, then takes the next one.",
    knobs={
        "sixfold": Knob("--batching static", "--batching continuous"),
        "llamacpp": Knob("--no-cont-batching", "--cont-batching"),
    },
    bottleneck="Memory bandwidth: weights are read once per step, whatever the batch.",
    symptom="One request at a time leaves most of the machine's arithmetic idle.",
    metric="tokens per second",
    pays="Offline jobs whose requests are alike in length; as the baseline to compare with.",
    not_when="Requests arrive over time or differ in length: short ones wait for the longest.",
    costs=(
        "Latency: a request waits for the batch before it to end, and its place stays empty once "
        "it is done, until the longest one is."
    ),
    stage=0,
    relieves=("throughput",),
    answers={},
    implemented="sixfold.engine.scheduler.scheduler.Scheduler",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
DYNAMIC = Card(
    name="dynamic batching",
    family="batching",
    what="Waits a bounded time for more requests, then runs what has come as one static batch.",
    knobs={"sixfold": Knob("--batching dynamic", "--batching static")},
    bottleneck="Memory bandwidth, at arrivals too sparse to fill a static batch.",
    symptom="Steps run nearly empty although requests arrive close together.",
    metric="tokens per second at a bounded TTFT",
    pays=(
        "Work that ends in one go and comes in clumps (embeddings, ranking, classifiers): the "
        "first of a clump waits a moment and takes the others along."
    ),
    not_when="The engine can batch continuously: waiting then only adds latency.",
    costs=(
        "Latency: a request that comes alone waits for the whole window, and one that shares a "
        "batch waits for its longest member."
    ),
    stage=0,
    relieves=("throughput",),
    answers={
        "hardware idles between bursts": (
            "When the model has no step to join (an encoder, a classifier) and requests come in "
            "clumps: a bounded wait turns a clump into one batch."
        ),
    },
    implemented="sixfold.engine.scheduler.policy.BatchAtATime",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
CONTINUOUS = Card(
    name="continuous batching",
    family="batching",
    what=(
        "Decides anew at every step which requests run: a finished one leaves at once, a waiting "
        "one joins, and long prompts are computed in chunks beside the others' decoding."
    ),
    knobs={
        "sixfold": Knob("--batching continuous", "--batching static", True),
        "vllm": Knob("", "--max-num-seqs 1"),
        "sglang": Knob("", "--max-running-requests 1"),
        "llamacpp": Knob("--cont-batching", "--no-cont-batching", True),
    },
    bottleneck="Slots that idle until the longest request of a batch is done.",
    symptom="Requests queue while running ones are few; TTFT grows with the others' lengths.",
    metric="TTFT p95, tokens per second",
    pays=(
        "Nearly always in serving: requests arrive over time and differ in length (Orca, 2022: "
        "36.9 times FasterTransformer's throughput at equal latency, GPT-3 175B; here 1.8 times "
        "static batches' tokens per second for 8 at once whose lengths vary exponentially)."
    ),
    not_when=(
        "A single request runs alone: there is nothing to share. A job whose answers are of equal "
        "length gains 1.03 with 32 at once."
    ),
    costs=(
        "Latency of the others: TPOT rises with the requests in a step (a user of vLLM measured "
        "8.2 ms at 16 and 9.4 ms at 32, issue 17598), so their number needs a cap; one above what "
        "the KV cache holds ends in preemptions."
    ),
    stage=0,
    relieves=("throughput", "first-token latency", "concurrency", "cost"),
    answers={
        "hardware idles between bursts": (
            "When steps run nearly empty and then a burst queues: all that has come joins the next "
            "step, up to the cap and the KV cache, and no place waits for a batch to end."
        ),
        "TTFT spikes at peak": (
            "When requests queue while few run: a waiting one joins as soon as there is room. If "
            "it is on and they queue below a full KV cache, the cap on running requests or the "
            "arithmetic is the limit."
        ),
        "tail latency jumps": (
            "When short requests end late because they share a batch with long ones: each leaves "
            "at its own end."
        ),
    },
    implemented="sixfold.engine.scheduler.scheduler.Scheduler",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
CARDS = (STATIC, DYNAMIC, CONTINUOUS)
