"""What a job will take, before it starts: time, cost, and whether a deadline holds.

A few of its own lines are run for a moment to see how fast what answers reads and writes at its
present load; the rest is arithmetic. Not here: the job itself, progress while it runs.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.lines import URLS, Defaults, Task, parse_line
from sixfold.serving.batch.reader import COMPRESSED, LineReader, Place
from sixfold.serving.batch.target import Answer, Target

SAMPLED = 64
SHORT, LONG = 1, 17
"""Tokens that are asked for to tell reading from writing."""

UNSAID = 256
"""Tokens taken for an answer whose line names no max_tokens."""

MARGIN = 0.25
"""Of a plan's time, by which it may be wrong either way."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that stand for all."""

    tasks: list[Task]
    lines: float
    """Of the whole input, about."""
    bad: float
    """The part of them that can't be run."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens per second, reading prompts and writing answers; prompts' tokens per character."""

    reading: float
    writing: float
    tokens_per_character: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected. Output tokens are the most that lines ask for."""

    lines: int
    prompt_tokens: int
    output_tokens: int
    seconds: float

    @property
    def longest(self) -> float:
        """Seconds that it takes if it goes badly."""
        return self.seconds * (1 + MARGIN)

    def holds(self, deadline: float) -> bool:
        """Whether it ends within so many seconds, also if it goes badly."""
        return self.longest <= deadline

    def cost(self, dollars_per_hour: float) -> float:
        """In dollars."""
        return self.seconds / 3600 * dollars_per_hour


def sample(source: Path, defaults: Defaults, count: int = SAMPLED, seed: int = 0) -> Sample:
    """Lines from all over the input; of a compressed one, its first. Raises SixfoldError."""
    size = max(1, source.stat().st_size)
    compressed = source.suffix in COMPRESSED
    rng = random.Random(seed)
    places = [0] if compressed else sorted(rng.randrange(size) for _ in range(count))
    tasks: dict[int, Task] = {}
    seen = bad = length = 0
    for place in [0, *places]:
        reader = LineReader(source, Place(0, place))
        try:
            for line in reader.lines():
                if line.number == 1 and place:
                    continue  # it began before the place
                begin = line.end - (0 if line.data is None else len(line.data) + 1)
                if line.data is None or line.data.strip():
                    item = parse_line(begin, line.data or b"", defaults)
                    seen, length = seen + 1, length + len(line.data or b"") + 1
                    if isinstance(item, Task):
                        tasks[begin] = item
                    else:
                        bad += 1
                if not compressed or seen >= count:
                    break
        finally:
            reader.close()
    if not tasks:
        raise SixfoldError(f"{source} has no line that can be run", "look into it")
    # What a compressed input unpacks to is not known: text shrinks to about a quarter.
    whole = size * (4 if compressed else 1)
    return Sample(tasks=list(tasks.values()), lines=whole / (length / seen), bad=bad / seen)


async def speed(target: Target, tasks: Sequence[Task], most: int) -> Speed:
    """Run `most` of the tasks twice, with short and with longer answers. Raises Unavailable."""
    generating = [task for task in tasks if task.url != URLS[2]] or list(tasks)
    some = [generating[i % len(generating)] for i in range(min(most, 4 * len(generating)))]
    await _timed(target, some[:1], SHORT)  # whatever is only done once
    short, answers = await _timed(target, some, SHORT)
    long, longer = await _timed(target, [_other(task) for task in some], LONG)
    prompts = sum(answer.prompt_tokens for answer in answers) or 1
    written = sum(answer.output_tokens for answer in longer) - sum(
        answer.output_tokens for answer in answers
    )
    characters = sum(max(1, len(task.prefix)) for task in some)
    writing = written / max(long - short, 0.1 * long) if written > 0 else float("inf")
    return Speed(
        reading=prompts / short, writing=writing, tokens_per_character=prompts / characters
    )


def plan(sampled: Sample, found: Speed) -> Plan:
    """The whole job, by its sample."""
    lines = sampled.lines * (1 - sampled.bad)
    each = len(sampled.tasks)
    prompt = sum(len(task.prefix) for task in sampled.tasks) * found.tokens_per_character / each
    output = sum(map(wanted, sampled.tasks)) / each
    return Plan(
        lines=round(sampled.lines), prompt_tokens=round(prompt * lines),
        output_tokens=round(output * lines),
        seconds=lines * (prompt / found.reading + output / found.writing),
    )  # fmt: skip


def wanted(task: Task) -> int:
    """The most tokens that its answer may have."""
    if task.url == URLS[2]:
        return 0
    body = task.body
    most = body.get("max_completion_tokens") or body.get("max_tokens") or UNSAID
    count = body.get("n") or 1
    return int(most) * int(count) if isinstance(most, int) and isinstance(count, int) else UNSAID


async def _timed(target: Target, tasks: Sequence[Task], tokens: int) -> tuple[float, list[Answer]]:
    places = asyncio.Semaphore(target.places)

    async def one(number: int, task: Task) -> Answer:
        body = {k: v for k, v in task.body.items() if k not in ("max_completion_tokens", "n")}
        if task.url != URLS[2]:
            body |= {"max_tokens": tokens}
        async with places:
            return await target.answer(msgspec.structs.replace(task, body=body), -number - 1)

    began = time.monotonic()
    answers = await asyncio.gather(*(one(i, task) for i, task in enumerate(tasks)))
    return max(time.monotonic() - began, 1e-6), [a for a in answers if a.status == 200]


def _other(task: Task) -> Task:
    """The same for the clock, but nothing that a prefix cache would know."""
    prompt = task.body.get("prompt")
    if not isinstance(prompt, str):
        return task
    return msgspec.structs.replace(task, body=task.body | {"prompt": prompt[::-1]})
