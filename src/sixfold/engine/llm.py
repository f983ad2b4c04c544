"""LLM: the whole-prompt API, `LLM(model).generate(prompts, SamplingParams(...))`, as in vLLM.

Runs the engine in this process. For a server, see serving/server; for jobs on disk, serving/batch.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sixfold.core.config import EngineConfig
from sixfold.core.errors import RequestError, SixfoldError
from sixfold.core.request import (
    ChatMessage,
    CompletionOutput,
    EngineRequest,
    Pooling,
    RequestDelta,
    RequestOutput,
    SamplingParams,
    split_seeds,
)
from sixfold.engine.engine import LLMEngine

Prompt = str | list[int]


class LLM:
    """A model in this process. Keyword arguments are those of `EngineConfig`."""

    def __init__(self, model: str = "smollm2-135m", **options: Any) -> None:
        self.engine = LLMEngine(EngineConfig(model=model, **options))
        self._ids = itertools.count()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Complete prompts (texts or token id lists), all at once; results in their order.

        One SamplingParams serves all, or one per prompt. Raises RequestError before anything runs.
        """
        items = _as_list(prompts)
        params = _per_prompt(sampling_params, len(items))
        jobs = [
            _Job(self.engine, f"{next(self._ids)}", prompt, p)
            for prompt, p in zip(items, params, strict=True)
        ]
        try:
            for job in jobs:
                job.submit(self.engine)
            self._run({child: job for job in jobs for child in job.children})
        except BaseException:  # Ctrl-C included: the engine must not keep half a batch
            for job in jobs:
                for child in job.children:
                    self.engine.abort(child)
            raise
        return [job.output() for job in jobs]

    def chat(
        self,
        messages: Sequence[ChatMessage] | Sequence[Sequence[ChatMessage]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation or several, through the model's chat template."""
        several: list[Any] = list(messages)
        if several and isinstance(several[0], dict):
            several = [several]
        tokenizer = self.engine.tokenizer
        prompts: list[Prompt] = [
            tokenizer.encode(tokenizer.apply_chat_template(list(m)), add_special_tokens=False)
            for m in several
        ]
        return self.generate(prompts, sampling_params)

    def embed(
        self, prompts: Prompt | Sequence[Prompt], pooling: Pooling = "mean"
    ) -> NDArray[np.float32]:
        """float32 [prompts, E]: a vector of length 1 for each prompt, out of its hidden states.

        `pooling`: the mean over all tokens, or the last token's state. Raises RequestError.
        """
        tokenizer, requests = self.engine.tokenizer, []
        for prompt in _as_list(prompts):
            ids = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
            requests.append(
                EngineRequest(
                    request_id=f"{next(self._ids)}", prompt_token_ids=ids, pooling=pooling,
                    params=SamplingParams(max_tokens=1), arrival_time=time.monotonic(),
                )
            )  # fmt: skip
        found: dict[str, bytes] = {}
        try:
            for request in requests:
                self.engine.add_request(request)
            while self.engine.has_unfinished():
                for delta in self.engine.step():
                    if delta.embedding is None:
                        raise SixfoldError(f"a prompt failed: {delta.error}")
                    found[delta.request_id] = delta.embedding
        except BaseException:
            for request in requests:
                self.engine.abort(request.request_id)
            raise
        return np.stack([np.frombuffer(found[r.request_id], "<f4") for r in requests])

    def score(self, query: Prompt, documents: Sequence[Prompt]) -> list[float]:
        """How near each document is to the query: the cosine of their vectors, -1 to 1."""
        vectors = self.embed([query, *documents])
        return [float(cosine) for cosine in vectors[1:] @ vectors[0]]

    def _run(self, owners: dict[str, "_Job"]) -> None:
        while self.engine.has_unfinished():
            for delta in self.engine.step():
                owners[delta.request_id].take(delta)


class _Job:
    """One prompt: n sequences, each a request of the engine."""

    def __init__(
        self, engine: LLMEngine, name: str, prompt: Prompt, params: SamplingParams
    ) -> None:
        # Here already, since n of them are made below.
        params.validate(engine.model_config.vocab_size)
        self.name = name
        self.text = prompt if isinstance(prompt, str) else None
        self.tokens = engine.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        self.params = split_seeds(params)
        self.children = [f"{name}-{i}" for i in range(params.n)]
        self.outputs = [CompletionOutput(index=i, text="", token_ids=[]) for i in range(params.n)]
        self.prompt_logprobs: list[Any] | None = None

    def submit(self, engine: LLMEngine) -> None:
        for child, params in zip(self.children, self.params, strict=True):
            engine.add_request(
                EngineRequest(
                    request_id=child,
                    prompt_token_ids=self.tokens,
                    params=params,
                    arrival_time=time.monotonic(),
                )
            )

    def take(self, delta: RequestDelta) -> None:
        out = self.outputs[self.children.index(delta.request_id)]
        out.text += delta.text
        out.token_ids += delta.token_ids
        if delta.logprobs is not None:
            out.logprobs = (out.logprobs or []) + delta.logprobs
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs = delta.prompt_logprobs
        if delta.finish_reason == "error":
            raise SixfoldError(f"request {self.name} failed: {delta.error}")
        if delta.finish_reason is not None:
            out.finish_reason, out.stop_reason = delta.finish_reason, delta.stop_reason
            out.timings = delta.timings

    def output(self) -> RequestOutput:
        return RequestOutput(
            request_id=self.name,
            prompt=self.text,
            prompt_token_ids=self.tokens,
            outputs=self.outputs,
            prompt_logprobs=self.prompt_logprobs,
        )


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    items: list[Any] = list(prompts)
    several = [isinstance(item, Iterable) for item in items]
    if any(several) and not all(several):
        raise RequestError(
            "prompts mixes token ids with whole prompts",
            "give a text, a list of token ids, or a list of such prompts",
            param="prompt",
        )
    return items if all(several) else [items]


def _per_prompt(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    if len(params) != count:
        raise RequestError(
            f"{len(params)} SamplingParams for {count} prompts", "give one, or one per prompt"
        )
    return list(params)
