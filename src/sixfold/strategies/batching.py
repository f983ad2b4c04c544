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
    implemented="sixfold.engine.scheduler.scheduler.Scheduler",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
DYNAMIC = Card(
    name="dynamic batching",
    family="batching",
    what="Waits a bounded time for more requests, then runs what has come as one static batch.",
    knobs={},
    bottleneck="Memory bandwidth, at arrivals too sparse to fill a static batch.",
    symptom="Steps run nearly empty although requests arrive close together.",
    metric="tokens per second at a bounded TTFT",
    pays="Models without a step of their own to join (classifiers, encoders).",
    not_when="The engine can batch continuously: waiting then only adds latency.",
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
    pays="Nearly always in serving: requests arrive over time and differ in length.",
    not_when="A single request runs alone: there is nothing to share.",
    implemented="sixfold.engine.scheduler.scheduler.Scheduler",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
    benchmark="benchmarks/strategies.py",
)
CARDS = (STATIC, DYNAMIC, CONTINUOUS)
