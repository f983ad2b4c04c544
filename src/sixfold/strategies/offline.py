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
    implemented="sixfold.engine.llm.LLM",
    equality_test="tests/engine/test_invariance.py::test_tiny_model",
)
CARDS = (OFFLINE,)
