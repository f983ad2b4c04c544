"""Answers lines without a model: what is said depends on the body alone. Counts its calls."""

import asyncio
import hashlib
import random

import msgspec

from sixfold.serving.batch.lines import Task
from sixfold.serving.batch.target import Answer, Unavailable, answered


def expected_body(body: dict) -> bytes:
    """The answer to a body."""
    digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return msgspec.json.encode({"text": digest, "usage": usage})


class FakeTarget:
    def __init__(self, places: int = 16, seed: int = 0, delay: float = 0.0) -> None:
        self.places = places
        self.calls: list[int] = []
        self.now = self.most = 0
        self.failing: dict[str, list[Exception]] = {}
        self._rng = random.Random(seed)
        self._delay = delay

    async def answer(self, task: Task, ticket: int) -> Answer:
        self.calls.append(task.line)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self._delay:
                await asyncio.sleep(self._rng.expovariate(1 / self._delay))
            else:
                await asyncio.sleep(0)
            planned = self.failing.get(task.custom_id)
            if planned:
                raise planned.pop(0)
            if task.body.get("refuse"):
                return Answer(status=400, body=b'{"error":{"message":"no","code":"refused"}}')
            return answered(200, expected_body(task.body), f"r{ticket}")
        finally:
            self.now -= 1


def died() -> Unavailable:
    return Unavailable("the engine died")
