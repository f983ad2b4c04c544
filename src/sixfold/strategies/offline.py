"""Family 6, offline batch inference: all requests are known and nobody waits. Cards only."""

from sixfold.strategies.card import Card, Knob

OFFLINE = Card(
    name="offline batch inference",
    family="offline",
    what=(
        "Runs a known set of requests for throughput: `sixfold batch` answers a file, ordered by "
        "shared prefix, keeps the KV cache full, computes equal questions once, and loses no line "
        "when it is killed. The server takes files and batches over its API and runs them behind "
        "its interactive requests."
    ),
    knobs={
        "sixfold": Knob("batch INPUT OUTPUT"),
        "vllm": Knob("run-batch"),
        "sglang": Knob("Engine.generate"),
    },
    bottleneck="Steps that run half empty because requests are sent one by one.",
    symptom="A client's loop, not the engine, sets the pace.",
    metric="tokens per second, cost per million tokens",
    pays=(
        "Evaluation, labelling, synthetic data: the end of the job counts, not its beginning (here "
        "98 % of the engine's best closed loop on 2,000 prompts of ShareGPT, on 200 of them "
        "4.8 times llama.cpp's server at its best concurrency; ordering 2.3 times file order with "
        "room for a tenth of the prefixes). Users who leave capacity idle: 64 % of it "
        "at a slowdown of 10 %, 83 % at 30 %, with users at 40 % of capacity."
    ),
    not_when=(
        "Somebody reads along. Beside users to whom a tenth of p95 matters: at "
        "--interactive-slowdown 0.1 their p95 TTFT was 0.94 to 1.22 times that without the batch."
    ),
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
    implemented="sixfold.serving.batch.runner.Runner",
    equality_test="tests/cli/test_batch.py::test_killed_with_its_engine_the_job_ends_as_if_nothing_had_been",
    benchmark="benchmarks/batch.py",
)
CARDS = (OFFLINE,)
