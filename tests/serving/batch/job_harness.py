"""Runs jobs with a fake target, and checks what a job must leave behind."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from fake_target import FakeTarget, expected_body

from sixfold.serving.batch.job import Job, errors_beside, finish, open_job
from sixfold.serving.batch.ledger import FINISHED, Counts
from sixfold.serving.batch.runner import Options, answer_lines


def job_at(source: Path, output: Path, **fields: Any) -> Job:
    return Job(input=source, output=output, errors=errors_beside(output), **fields)


def run_job(job: Job, target: Any = None, restart: bool = False, **options: Any) -> Counts:
    return asyncio.run(run_async(job, target or FakeTarget(), restart, Options(**options)))


async def run_async(job: Job, target: Any, restart: bool, options: Options) -> Counts:
    ledger = open_job(job, restart)
    try:
        if ledger.state != FINISHED:
            await answer_lines(job, ledger, target, options)
            finish(job, ledger)
        return ledger.counts
    finally:
        ledger.close()


def write_lines(path: Path, items: list[Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def prompts(count: int) -> list[dict]:
    return [{"custom_id": f"id-{i}", "prompt": f"text {i}"} for i in range(count)]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_complete(job: Job, items: list[dict]) -> None:
    """Every id exactly once, with the answer to its own body."""
    found = Counter(row["custom_id"] for row in rows(job.output) + rows(job.errors))
    assert found == Counter(item["custom_id"] for item in items)
    bodies = {i["custom_id"]: {k: v for k, v in i.items() if k != "custom_id"} for i in items}
    for row in rows(job.output):
        want = json.loads(expected_body(bodies[row["custom_id"]]))
        assert row["response"]["body"] == want and row["error"] is None
