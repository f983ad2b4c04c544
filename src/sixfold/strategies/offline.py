"""Family 6, offline batch inference: all requests are known and nobody waits. Cards only."""

from sixfold.strategies.card import Card, Knob

OFFLINE = Card(
    name="offline batch inference",
    family="offline",
    what=(
        "Runs a known set of prompts for throughput: `LLM.generate` takes them all at once and "
        "keeps every step full. Durable jobs over files are planned."
    ),
    knobs={
        "sixfold": Knob("LLM.generate"),
        "vllm": Knob("run-batch"),
        "sglang": Knob("Engine.generate"),
    },
    bottleneck="Steps that run half empty because requests are sent one by one.",
    symptom="A client's loop, not the engine, sets the pace.",
    metric="tokens per second, cost per million tokens",
    pays="Evaluation, labelling, synthetic data: the end of the job counts, not its beginning.",
    not_when="Somebody reads along.",
    costs=(
        "Latency: an answer comes when its job gets to it. Beside interactive users it takes room "
        "and arithmetic that they feel, unless it has hours or machines of its own."
    ),
    stage=2,
    relieves=("cost", "throughput"),
    answers={
        "hardware idles between bursts": (
            "When there is work that nobody waits for (labelling, embeddings, nightly runs): it "
            "fills the hours between bursts, with every step full."
        ),
        "TTFT spikes at peak": (
            "When work that nobody waits for runs on the server that users wait for: it can leave "
            "the peak."
        ),
    },
    implemented="sixfold.engine.llm.LLM",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
)
CARDS = (OFFLINE,)
