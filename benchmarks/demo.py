"""`make demo`: a real model, served; what batching and prefix caching do to a chat workload.

Users share a long system prompt and ask different questions. Each variant is a server of its own
with one strategy off or on, under the same requests. Ends with one answer of the model.
"""

import argparse
import time
from collections.abc import Sequence

import servers
from recording import save
from sixfold.core.record import Measure
from sixfold.instrument.backends.spec import Scalar
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Outcome, Session, Turn
from sixfold.instrument.loadgen.report import report
from sixfold.instrument.loadgen.run import run_load
from tables import render

SYSTEM = (
    "You are the help desk of a small town's library. Be friendly and brief. The library opens "
    "from nine to six on weekdays and from ten to two on Saturdays; it is closed on Sundays and "
    "public holidays. A card is free for everybody who lives in the district and costs twelve a "
    "year for others. Books may be kept for four weeks and renewed twice unless someone waits for "
    "them; films and games for one week. Late returns cost twenty cents a day, never more than "
    "five per item. Rooms for groups can be booked for two hours. The reading room is silent; "
    "children's hour is on Wednesdays at four. Printers take coins. Questions about lost property "
    "go to the front desk. If you do not know something, say so and name the front desk. "
)
TOPICS = (
    "renewing a book", "the opening hours", "a library card", "late fees", "booking a room",
    "children's hour", "printing a page", "a lost umbrella", "borrowing a film", "quiet places",
)  # fmt: skip
VARIANTS: dict[str, dict[str, Scalar]] = {
    "static batching, no prefix cache": {"batching": "static", "enable_prefix_caching": False},
    "continuous batching, no prefix cache": {"enable_prefix_caching": False},
    "continuous batching, prefix cache": {},
}


def chats(count: int) -> list[Session]:
    """Chats behind one system prompt; answers of 16 to 64 tokens."""
    return [
        Session(
            system=SYSTEM,
            turns=(
                Turn(
                    text=f"Visitor {i} asks about {TOPICS[i % len(TOPICS)]}.",
                    max_tokens=16 + 16 * (i * 7 % 4),
                ),
            ),
        )
        for i in range(count)
    ]


def measure(model: str, flags: dict[str, Scalar], count: int, users: int) -> tuple[Outcome, ...]:
    """Start a server, warm it up with one request, send the workload."""
    spec = servers.sixfold(model, {"max_num_seqs": users} | flags)
    with servers.serving(spec) as server:
        extra = {"temperature": 0, "ignore_eos": True}
        target = Target(url=server.url, model=model, chat=True, extra=extra)
        run_load(target, [Session(turns=(Turn(text="Hello", max_tokens=8),))], 1)
        return run_load(target, chats(count), users).outcomes


def columns(outcomes: Sequence[Outcome]) -> dict[str, Measure]:
    """The table's columns."""
    values = report(outcomes)
    cached = sum(outcome.num_cached_tokens or 0 for outcome in outcomes)
    return {
        "TTFT p50": Measure(values=[values["ttft:p50"] * 1e3], unit="ms"),
        "TTFT p95": Measure(values=[values["ttft:p95"] * 1e3], unit="ms"),
        "TPOT p50": Measure(values=[values["tpot:p50"] * 1e3], unit="ms"),
        "output": Measure(values=[values["output_throughput"]], unit="tok/s"),
        "cached tokens": Measure(values=[float(cached)], unit="tokens"),
    }


def answer(model: str, question: str) -> str:
    """One answer of the model."""
    with servers.serving(servers.sixfold(model)) as server:
        target = Target(url=server.url, model=model, chat=True, extra={"temperature": 0})
        session = Session(turns=(Turn(text=question, max_tokens=60),))
        return run_load(target, [session], 1).outcomes[0].text


def main() -> None:
    """Run the variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--users", type=int, default=16, help="requests in flight")
    parser.add_argument("--record", action="store_true", help="write docs/results/demo.json")
    arguments = parser.parse_args()
    began = time.monotonic()
    results: dict[str, dict[str, Measure]] = {}
    for name, flags in VARIANTS.items():
        print(f"serving {arguments.model}: {name} ...", flush=True)
        outcomes = measure(arguments.model, flags, arguments.requests, arguments.users)
        results[name] = columns(outcomes)
    print(f"\n{arguments.requests} chats of {arguments.users} users behind one system prompt:\n")
    print(render(results))
    question = "What is the capital of France?"
    print(f"\n{question}\n  {answer(arguments.model, question).strip()}")
    took = time.monotonic() - began
    print(f"\nall of it took {took:.0f} s")
    if arguments.record:
        workload = {"model": arguments.model, "requests": arguments.requests,
                    "users": arguments.users, "prompt": "shared system prompt"}  # fmt: skip
        save("demo", "A chat workload behind one system prompt", workload, results,
             f"After set-up all of it, the answer included, took {took:.0f} s.")  # fmt: skip


if __name__ == "__main__":
    main()
