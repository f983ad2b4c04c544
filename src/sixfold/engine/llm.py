"""LLM: the whole-prompt API, `LLM(model).generate(prompts, SamplingParams(...))`, as in vLLM.

Runs the engine in this process. For a server, see serving/server; for jobs on disk, serving/batch.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

from sixfold.core.config import EngineConfig
from sixfold.core.errors import RequestError, SixfoldError
from sixfold.core.request import (
    ChatMessage,
    CompletionOutput,
    EngineRequest,
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
