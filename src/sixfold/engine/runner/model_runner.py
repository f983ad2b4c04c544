"""Runs a scheduled step: arrays in, one executor call each for the layers and for sampling.

Not here: which tokens run (scheduler), when a request is over (engine/engine.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sixfold.core.request import EngineRequest, Logprob
from sixfold.engine.runner.executor import Executor
from sixfold.engine.runner.pooling import Pooler
from sixfold.engine.runner.sampling_batch import SamplingBatch
from sixfold.engine.runner.step_input import StepInputBuilder
from sixfold.engine.scheduler.output import ScheduledChunk

Int32 = NDArray[np.int32]


@dataclass(slots=True)
class SampledToken:
    """A request's new token. `failed`: no finite logit was left, the token means nothing."""

    token_id: int
    logprobs: list[Logprob] | None = None
    failed: bool = False


@dataclass(slots=True)
class StepResult:
    """Per request id: its new tokens, and logprobs of prompt tokens (position -> entry).

    New is the sampled token, and before it those drafted ones that sampling gave, too.
    """

    sampled: dict[str, list[SampledToken]] = field(default_factory=dict)
    prompt_logprobs: dict[str, dict[int, list[Logprob]]] = field(default_factory=dict)
    embeddings: dict[str, bytes] = field(default_factory=dict)
    """Of requests that want one, once their prompts are whole."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """What sampling needs of a request: the request itself and the tokens it has generated."""

    request: EngineRequest
    output: Sequence[int]


class ModelRunner:
    """Turns chunks into tokens."""

    def __init__(
        self, executor: Executor, builder: StepInputBuilder, sampling: SamplingBatch, pooler: Pooler
    ) -> None:
        self._executor = executor
        self._pooler = pooler
        self._builder = builder
        self._sampling = sampling

    def seconds(self) -> dict[str, float]:
        """Time spent in the executor so far, by part."""
        return self._executor.seconds()

    def execute(
        self, chunks: Sequence[ScheduledChunk], view: Callable[[str], RequestView]
    ) -> StepResult:
        """Run the chunks' tokens and sample those that ask for it."""
        step = self._builder.build(chunks)
        self._executor.uses(self._builder.highest)
        self._executor.forward(step)
        result = StepResult()
        ends = step.query_start_loc[1:] - 1
        sampling = [i for i, chunk in enumerate(chunks) if chunk.samples]
        if sampling:
            self._sample([chunks[i] for i in sampling], ends[sampling], view, result)
        for index, chunk in enumerate(chunks):
            if chunk.prompt_logprobs:
                first = int(step.query_start_loc[index])
                self._score_prompt(chunk, first, view(chunk.request_id).request, result)
        self._pool(chunks, step.query_start_loc.tolist(), view, result)
        return result

    def _pool(
        self, chunks: Sequence[ScheduledChunk], starts: list[int],
        view: Callable[[str], RequestView], result: StepResult,
    ) -> None:  # fmt: skip
        hidden = None
        for index, chunk in enumerate(chunks):
            if chunk.samples:
                continue
            request = view(chunk.request_id).request
            if request.pooling is None:
                continue
            if hidden is None:
                hidden = self._pooler.hidden()
            found = self._pooler.take(chunk, request, hidden[starts[index] : starts[index + 1]])
            if found is not None:
                result.embeddings[chunk.request_id] = found

    def _sample(
        self, chunks: list[ScheduledChunk], rows: Int32,
        view: Callable[[str], RequestView], result: StepResult,
    ) -> None:  # fmt: skip
        views = [view(chunk.request_id) for chunk in chunks]
        for chunk, v in zip(chunks, views, strict=True):
            self._sampling.start(chunk.slot, v.request)
        slots, outputs = [c.slot for c in chunks], [v.output for v in views]
        if any(chunk.num_drafted for chunk in chunks):
            drafts = [c.token_ids[len(c.token_ids) - c.num_drafted :] for c in chunks]
            params = self._sampling.records(slots, outputs, drafts)
            pairs = zip(rows, drafts, strict=True)
            rows = np.concatenate([np.arange(end - len(some), end + 1) for end, some in pairs])
        else:
            drafts = [[]] * len(chunks)
            params = self._sampling.records(slots, outputs)
        targets = np.full(len(rows), -1, np.int32)
        found = self._executor.sample(rows.astype(np.int32), targets, params)
        at = 0
        for chunk, v, draft in zip(chunks, views, drafts, strict=True):
            some = found[at : at + len(draft) + 1]
            logprobs = v.request.params.logprobs is not None
            result.sampled[chunk.request_id] = _kept(some, draft, logprobs)
            at += len(some)

    def _score_prompt(
        self, chunk: ScheduledChunk, first_row: int, request: EngineRequest, result: StepResult
    ) -> None:
        """Row p of the prompt scores token p + 1."""
        prompt = request.prompt_token_ids
        stop = min(chunk.start + len(chunk.token_ids), len(prompt) - 1)
        count = stop - chunk.start
        if count <= 0:
            return
        rows = np.arange(first_row, first_row + count, dtype=np.int32)
        targets = np.array(prompt[chunk.start + 1 : stop + 1], np.int32)
        wanted = request.params.prompt_logprobs or 0
        params = self._sampling.params_for_prompt(count, wanted)
        found = self._executor.sample(rows, targets, params)
        scores = result.prompt_logprobs.setdefault(chunk.request_id, {})
        for i in range(count):
            scores[chunk.start + 1 + i] = _logprobs(found[i])


def _kept(found: NDArray[np.void], draft: list[int], logprobs: bool) -> list[SampledToken]:
    """Tokens as they would have come one by one: a row counts while all drafted before are right.

    A row's token is drawn from the model's distribution with the request's random number for that
    position, as it is without drafts: so what comes out is that very text, however it is sampled.
    """
    kept = []
    rows = zip(found["token"].tolist(), found["status"].tolist(), strict=True)
    for i, (token, status) in enumerate(rows):
        scores = _logprobs(found[i]) if logprobs else None
        kept.append(SampledToken(token, scores, status != 0))
        if status or i == len(draft) or token != draft[i]:
            break
    return kept


def _logprobs(found: np.void) -> list[Logprob]:
    """The chosen token first, then the best ones."""
    count = int(found["num_top"])
    entries = [Logprob(int(found["token"]), float(found["logprob"]), int(found["rank"]))]
    best = zip(
        found["top_ids"][:count].tolist(), found["top_logprobs"][:count].tolist(), strict=True
    )
    entries += [Logprob(i, p, rank) for rank, (i, p) in enumerate(best, 1)]
    return entries
