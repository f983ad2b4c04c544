"""`sixfold batch INPUT OUTPUT`: a file of requests, answered; it goes on where it was stopped."""

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sixfold.cli.batch_plan import seconds_of
from sixfold.cli.parsing import Parser
from sixfold.cli.settings import add_flags, build, read_toml, structs
from sixfold.core.errors import ConfigError

if TYPE_CHECKING:
    from sixfold.serving.batch.job import Job
    from sixfold.serving.batch.ledger import Ledger
    from sixfold.serving.batch.target import Target

EXIT_ERRORS = 3
"""The job is complete, and some lines ended as errors."""

EXAMPLES = """examples:
  sixfold batch prompts.jsonl answers.jsonl --model smollm2-135m --max-tokens 64
  sixfold batch requests.jsonl.gz results.jsonl.gz --keep-order
  sixfold batch requests.jsonl results.jsonl --url http://127.0.0.1:8000 --concurrency 64
  sixfold batch requests.jsonl results.jsonl --ray 10.0.0.5:6379

A line is a request of OpenAI's batches ({"custom_id": ..., "url": "/v1/chat/completions", "body":
{...}}), a body alone ({"prompt": ...}, {"messages": [...]}, {"input": ...}), or a JSON string.
Stopped or killed, the same command goes on: nothing that is written is lost or computed twice.
Exit codes: 0 done, 3 done and some lines ended in the errors' file, 1 stopped, 130 Ctrl-C."""


class BatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a job is run."""

    url: str = ""
    """Have an OpenAI-compatible server answer, such as http://127.0.0.1:8000, not a model here."""
    api_key: str = ""
    """That server's key."""
    ray: str = ""
    """Run an engine on every node of this Ray cluster (its address, or local)."""
    concurrency: int = 32
    """Requests that are sent to that server at once; here, the engine takes what it can hold."""
    timeout: float = 600.0
    """Seconds that the server may take for one request."""
    patience: float = 300.0
    """Seconds to wait for a server or an engine that does not answer, before the job stops."""
    errors: str = ""
    """Where lines go that could not be answered (OUTPUT with .errors in its name)."""
    keep_order: bool = False
    """Results in the order of the lines; else as they come, to be told by custom_id."""
    prefix_order: bool = True
    """Run lines that begin alike together, so that their prefix is computed once."""
    restart: bool = False
    """Begin anew: drop the results and the progress that are there."""
    max_tokens: int | None = None
    """Longest answer of lines that don't say."""
    temperature: float | None = None
    """Of lines that don't say; 0 is greedy."""
    seed: int | None = None
    """Of lines that don't say."""
    price: str = ""
    """What the machine costs, in dollars per hour, to show what the job does."""
    deadline: str = ""
    """Time that the job may take, such as 90m or 8h: says before the start whether that will do."""
    plan: bool = False
    """Only say what the job would take: exit code 0, or 3 where the deadline would not hold."""
    served_model_name: str = ""
    """Another name by which lines may call the model here."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("concurrency", 1, 4096), ("timeout", 0.1, 86400), ("patience", 0, 86400),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}", f"give {low} to {high}")

        seconds_of(self.deadline)
        if self.url and self.ray:
            raise ConfigError("--url and --ray exclude each other", "leave one of them out")

    def fields(self) -> dict[str, Any]:
        """What lines mean that don't say so themselves."""
        given = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        return {name: value for name, value in given.items() if value is not None}


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    p = Parser(
        prog="sixfold batch",
        description="Answer a file of requests, durably, at the best throughput.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("input", help="JSON Lines; .gz and .zst are read as they are")
    p.add_argument("output", help="where results go; .gz or .zst compresses them at the end")
    p.add_argument("--model", default=argparse.SUPPRESS, help="to load here (smollm2-135m)")
    p.add_argument("--config", metavar="FILE", help="TOML file with any of these settings")
    add_flags(p, BatchConfig, "batch")
    add_flags(p, structs()[0], "engine, without --url", leave_out=("seed",))
    return p


def run(argv: list[str]) -> int:
    """Run the job to its end."""
    from sixfold.serving.batch.job import Job, errors_beside
    from sixfold.serving.batch.lines import Defaults

    namespace = vars(parser().parse_args(argv))
    toml = read_toml(namespace["config"], (BatchConfig,)) if namespace["config"] else {}
    wanted: BatchConfig = build(BatchConfig, namespace, toml)
    # Throughput is what counts: larger steps than those of a server.
    engine = build(structs()[0], namespace, {"model": "smollm2-135m", **LARGE_STEPS} | toml)
    output = Path(namespace["output"])
    job = Job(
        input=Path(namespace["input"]),
        output=output,
        errors=Path(wanted.errors) if wanted.errors else errors_beside(output),
        defaults=Defaults(
            fields=wanted.fields(), seeds=not wanted.url, model=_model(wanted, namespace)
        ),
        answered_by=wanted.url or engine.model,
        keep_order=wanted.keep_order,
    )
    try:
        return asyncio.run(_run(job, wanted, engine))
    except asyncio.CancelledError:
        print("stopped; the same command goes on here", file=sys.stderr)
        return 130


def _model(wanted: BatchConfig, namespace: dict[str, Any]) -> str:
    """What lines for a server mean that name no model: most servers ask for one."""
    if not wanted.url:
        return ""
    from sixfold.cli.remote import GenerationConfig, Remote

    asked = GenerationConfig(url=wanted.url, api_key=wanted.api_key)
    return str(namespace.get("model") or Remote(asked).model())


LARGE_STEPS = {"max_num_batched_tokens": 2048}


async def _run(job: "Job", wanted: BatchConfig, engine: Any) -> int:
    from sixfold.cli.batch_plan import show_plan
    from sixfold.serving.batch.job import finish, open_job
    from sixfold.serving.batch.ledger import FINISHED

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    if wanted.plan:
        async with _target(wanted, engine) as target:
            return 0 if await show_plan(job, target, wanted) else EXIT_ERRORS
    ledger = open_job(job, wanted.restart)
    try:
        if ledger.state == FINISHED:
            print("this job is done already (--restart to run it anew)", file=sys.stderr)
        else:
            async with _target(wanted, engine) as target:
                if wanted.deadline:
                    await show_plan(job, target, wanted)
                await _work(job, ledger, target, wanted)
            finish(job, ledger)
        counts = ledger.counts
    finally:
        ledger.close()
    print(_summary(job, counts), file=sys.stderr)
    return EXIT_ERRORS if counts.errors else 0


async def _work(job: "Job", ledger: "Ledger", target: "Target", wanted: BatchConfig) -> None:
    from sixfold.cli.batch_progress import Progress
    from sixfold.serving.batch.runner import Options, answer_lines

    deadline = seconds_of(wanted.deadline)
    with Progress(job.input, ledger.counts, wanted.price, deadline) as progress:
        options = Options(patience=wanted.patience, prefix_order=wanted.prefix_order)
        await answer_lines(job, ledger, target, options, progress.committed)


@asynccontextmanager
async def _target(wanted: BatchConfig, engine: Any) -> AsyncGenerator["Target", None]:
    if wanted.url:
        from sixfold.cli.batch_endpoint import EndpointTarget

        endpoint = EndpointTarget(wanted.url, wanted.api_key, wanted.concurrency, wanted.timeout)
        try:
            yield endpoint
        finally:
            endpoint.close()
        return
    if wanted.ray:
        from sixfold.serving.batch.cluster import ray_target

        async with ray_target(wanted.ray, engine) as cluster:
            yield cluster
        return
    from sixfold.serving.batch.engine import running_engine
    from sixfold.serving.batch.local import LocalTarget

    print(f"loading {engine.model} ...", file=sys.stderr)
    async with running_engine(engine, None, wanted.served_model_name) as state:
        yield LocalTarget(state)


def _summary(job: "Job", counts: Any) -> str:
    parts = [f"{counts.done + counts.errors:,} lines: {counts.done:,} in {job.output}"]
    if counts.copied:
        parts[0] += f" ({counts.copied:,} asked the same as another)"
    if counts.errors:
        parts.append(f"{counts.errors:,} in {job.errors}")
    tokens = counts.prompt_tokens + counts.output_tokens
    rate = tokens / counts.seconds if counts.seconds else 0.0
    parts.append(
        f"{counts.prompt_tokens:,} + {counts.output_tokens:,} tokens in {counts.seconds:,.1f} s, "
        f"{rate:,.0f} tok/s"
    )
    return " · ".join(parts)
