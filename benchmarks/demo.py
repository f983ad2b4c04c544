"""`make demo`: a real model, served; what batching and prefix caching do to a chat workload.

Users share a long system prompt and ask different questions. Each variant is a server of its own
with one strategy off or on, under the same requests. Ends with one answer of the model.
"""

import argparse
import asyncio
import time
from typing import Any

import servers
from loadgen import Answer, run
from recording import save
from sixfold.core.metrics import output_throughput, spread, tpot, ttft
from sixfold.core.record import Measure
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
VARIANTS: dict[str, tuple[str, ...]] = {
    "static batching, no prefix cache": ("--batching", "static", "--no-enable-prefix-caching"),
    "continuous batching, no prefix cache": ("--no-enable-prefix-caching",),
    "continuous batching, prefix cache": (),
}


def requests(count: int) -> list[dict[str, Any]]:
    """Chat requests behind one system prompt; answers of 16 to 64 tokens."""
    return [
        {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"Visitor {i} asks about {TOPICS[i % len(TOPICS)]}."},
            ],
            "temperature": 0,
            "ignore_eos": True,
            "max_tokens": 16 + 16 * (i * 7 % 4),
        }
        for i in range(count)
    ]


def measure(model: str, flags: tuple[str, ...], count: int, users: int) -> list[Answer]:
    """Start a server, warm it up with one request, send the workload."""
    with servers.sixfold(model, ("--max-num-seqs", str(users), *flags)) as target:
        warm = [{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}]
        asyncio.run(run(target, "/v1/chat/completions", warm, 1))
        return asyncio.run(run(target, "/v1/chat/completions", requests(count), users))


def columns(answers: list[Answer]) -> dict[str, Measure]:
    """The table's columns."""
    traces = [a.trace for a in answers]
    first, per_token = spread(map(ttft, traces)), spread(map(tpot, traces))
    details = [a.usage.get("prompt_tokens_details") or {} for a in answers]
    cached = sum(d.get("cached_tokens") or 0 for d in details)
    return {
        "TTFT p50": Measure(values=[first.p50 * 1e3], unit="ms"),
        "TTFT p95": Measure(values=[first.p95 * 1e3], unit="ms"),
        "TPOT p50": Measure(values=[per_token.p50 * 1e3], unit="ms"),
        "output": Measure(values=[output_throughput(traces)], unit="tok/s"),
        "cached tokens": Measure(values=[float(cached)], unit="tokens"),
    }


def answer(model: str, question: str) -> str:
    """One answer of the model."""
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 60}
    with servers.sixfold(model) as target:
        return asyncio.run(run(target, "/v1/chat/completions", [body], 1))[0].text


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
        answers = measure(arguments.model, flags, arguments.requests, arguments.users)
        results[name] = columns(answers)
    print(f"\n{arguments.requests} chats of {arguments.users} users behind one system prompt:\n")
    print(render(results))
    question = "What is the capital of France?"
    print(f"\n{question}\n  {answer(arguments.model, question).strip()}")
    print(f"\nall of it took {time.monotonic() - began:.0f} s")
    if arguments.record:
        workload = {"model": arguments.model, "requests": arguments.requests,
                    "users": arguments.users, "prompt": "shared system prompt"}  # fmt: skip
        save("demo", "A chat workload behind one system prompt", workload, results)


if __name__ == "__main__":
    main()
