"""LLMEngine: requests in, deltas out, one step at a time.

The step is the story: schedule, execute, update, outputs. Each part lives in its own room; this
file only joins them. Not here: threads, processes, HTTP (serving/), whole-prompt calls (llm.py).
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sixfold.core.config import EngineConfig, ModelConfig
from sixfold.core.errors import ModelError, RequestError
from sixfold.core.metrics import EngineStats
from sixfold.core.request import (
    EngineRequest,
    FinishReason,
    Logprob,
    RequestDelta,
    check_token_ids,
)
from sixfold.engine.kernels.program import Program
from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.models.checkpoint import Checkpoint, open_checkpoint
from sixfold.engine.models.registry import resolve, sixfold_home
from sixfold.engine.models.tokenizer import Tokenizer, load_tokenizer
from sixfold.engine.models.weights import (
    Progress,
    Weights,
    auto_dtype,
    load_weights,
    packed_path,
)
from sixfold.engine.output import OutputState
from sixfold.engine.runner.calibration import with_outliers
from sixfold.engine.runner.executor import build_executor, build_program
from sixfold.engine.runner.model_runner import ModelRunner, RequestView, SampledToken, StepResult
from sixfold.engine.runner.sampling_batch import SamplingBatch
from sixfold.engine.runner.step_input import StepInputBuilder
from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.output import SchedulerOutput
from sixfold.engine.scheduler.scheduler import Scheduler

DEFAULT_MAX_MODEL_LEN = 8192


@dataclass(slots=True)
class _Live:
    """A request in flight: its text state, and what goes out with its next delta."""

    request: EngineRequest
    text: OutputState
    output: list[int] = field(default_factory=list)
    prompt_logprobs: list[list[Logprob] | None] | None = None


class LLMEngine:
    """One model, many requests. Not thread-safe: one caller steps it.

    Raises ConfigError, ModelError (files), and from `add_request` RequestError.
    """

    def __init__(self, config: EngineConfig, progress: Progress | None = None) -> None:
        home = sixfold_home()
        checkpoint = open_checkpoint(resolve(config.model, home))
        self.config = config
        self.model_config: ModelConfig = checkpoint.config
        self.tokenizer: Tokenizer = load_tokenizer(checkpoint.path)
        self.max_model_len = _max_model_len(config, checkpoint)
        self.dtype = auto_dtype(checkpoint.config) if config.dtype == "auto" else config.dtype
        self.eos_token_ids = tuple(
            dict.fromkeys((*checkpoint.config.eos_token_ids, *self.tokenizer.eos_token_ids))
        )
        cache_dir = Path(config.cache_dir).expanduser() if config.cache_dir else home
        weights = load_weights(checkpoint, self.dtype, cache_dir, progress)
        path = packed_path(checkpoint, self.dtype, cache_dir).with_suffix(".columns.json")
        program = build_program(checkpoint.config)
        weights = with_outliers(weights, program, self.tokenizer.encode, path)
        self._build(program, weights, checkpoint, cache_dir)
        self._live: dict[str, _Live] = {}
        self._generated = 0
        self._prompt_tokens = self._batched_tokens = self._steps = 0
        self._busy_seconds = 0.0
        self._busy_since: float | None = None

    def _build(
        self, program: Program, weights: Weights, checkpoint: Checkpoint, cache_dir: Path
    ) -> None:
        config = self.config
        executor, num_blocks = build_executor(
            program, weights, config, self.max_model_len, cache_dir
        )
        kv = KVCacheManager(
            groups=program.kv_groups,
            num_blocks=num_blocks,
            model_key=f"{checkpoint.content_key}-{self.dtype}-{config.kv_cache_dtype}",
            enable_prefix_caching=config.enable_prefix_caching,
        )
        self._scheduler = Scheduler(
            SchedulerConfig(
                max_num_seqs=config.max_num_seqs,
                max_num_batched_tokens=config.max_num_batched_tokens,
                max_model_len=self.max_model_len,
                policy=config.scheduling_policy,
                batching=config.batching,
            ),
            kv,
        )
        groups = len(program.kv_groups)
        builder = StepInputBuilder(groups, config.max_num_seqs, self.max_model_len)
        sampling = SamplingBatch(config.max_num_seqs, self.eos_token_ids, config.seed)
        self._runner = ModelRunner(executor, builder, sampling)

    def add_request(self, request: EngineRequest) -> None:
        """Queue a request. Raises RequestError; the engine is as before then."""
        self._check(request)
        # A record of its own, since the caller may send the same one again: the sampler tells
        # requests apart by identity.
        request = msgspec.structs.replace(request)
        state = _Live(request, OutputState(self.tokenizer, request.params, self.eos_token_ids))
        if request.params.prompt_logprobs is not None:
            state.prompt_logprobs = [None]
        self._scheduler.add(request)
        self._live[request.request_id] = state
        self._prompt_tokens += len(request.prompt_token_ids)

    def abort(self, request_id: str) -> None:
        """Forget a request and free its blocks, whatever it was doing. Unknown ids are ignored."""
        if self._live.pop(request_id, None) is not None:
            self._scheduler.abort(request_id)

    def step(self) -> list[RequestDelta]:
        """Run one step and say what it gave: schedule -> execute -> update -> outputs."""
        began = time.perf_counter()
        deltas = self._step()
        ended = time.perf_counter()
        # What was done between two steps, with work waiting, is time of a step too.
        self._busy_seconds += ended - (self._busy_since or began)
        self._busy_since = ended if self._live else None
        return deltas

    def _step(self) -> list[RequestDelta]:
        output = self._scheduler.schedule(time.monotonic())
        deltas = [self._expire(request_id) for request_id in output.expired]
        self._batched_tokens = output.num_batched_tokens
        if output.chunks:
            self._steps += 1
            result = self._runner.execute(output.chunks, self._view)
            sampled = {name: [token.token_id] for name, token in result.sampled.items()}
            self._scheduler.update_from_output(output, sampled, time.monotonic())
            deltas += self._outputs(output, result)
        return deltas

    def has_unfinished(self) -> bool:
        """True while a request is queued or running."""
        return bool(self._live)

    def reset_prefix_cache(self) -> bool:
        """Forget cached prefixes; blocks in use stay. True if it was done."""
        return self._scheduler.reset_prefix_cache()

    def stats(self) -> EngineStats:
        """Counters since the start, and gauges of now."""
        s = self._scheduler.stats()
        seconds = self._runner.seconds()
        seconds["python"] = max(0.0, self._busy_seconds - sum(seconds.values()))
        return EngineStats(
            num_requests_running=s.running,
            num_requests_waiting=s.waiting,
            kv_cache_usage=s.kv_cache_usage,
            prefix_cache_queries=s.prefix_cache_queries,
            prefix_cache_hits=s.prefix_cache_hits,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generated,
            num_preemptions=s.preemptions,
            num_batched_tokens=self._batched_tokens,
            num_steps=self._steps,
            step_seconds=seconds,
        )

    def _check(self, request: EngineRequest) -> None:
        prompt, vocab = request.prompt_token_ids, self.model_config.vocab_size
        if request.request_id in self._live:
            raise RequestError("request_id is in use", "choose another", param="request_id")
        request.params.validate(vocab)
        if not prompt:
            raise RequestError("the prompt is empty", "send at least one token", param="prompt")
        if len(prompt) >= self.max_model_len:
            raise RequestError(
                f"the prompt has {len(prompt)} tokens; max_model_len is {self.max_model_len}",
                "shorten it, or start the engine with a larger --max-model-len",
                param="prompt",
            )
        check_token_ids(prompt, vocab, "prompt")

    def _view(self, request_id: str) -> RequestView:
        live = self._live[request_id]
        return RequestView(live.request, live.output)

    def _expire(self, request_id: str) -> RequestDelta:
        self._live.pop(request_id, None)
        return RequestDelta(
            request_id=request_id,
            finish_reason="deadline",
            error="the request's deadline passed",
            timings=self._scheduler.timings(request_id),
        )

    def _outputs(self, output: SchedulerOutput, result: StepResult) -> list[RequestDelta]:
        for request_id, scores in result.prompt_logprobs.items():
            known = self._live[request_id].prompt_logprobs
            if known is not None:
                # A preempted request computes its prompt again: keep what was sent in order.
                known.extend(scores[p] for p in sorted(scores) if p == len(known) or p > len(known))
        return [self._advance(request_id, token) for request_id, token in result.sampled.items()]

    def _advance(self, request_id: str, token: SampledToken) -> RequestDelta:
        """Add a token to its request; finish the request where it ends."""
        live = self._live[request_id]
        if token.failed:
            return self._finish(
                RequestDelta(request_id=request_id, error="the model gave no finite logits"),
                "error",
            )
        live.output.append(token.token_id)
        self._generated += 1
        text, reason, stop_reason = live.text.push(token.token_id)
        if reason is None and self._scheduler.reached_max_len(request_id):
            reason, text = "length", text + live.text.flush()
        delta = RequestDelta(
            request_id=request_id,
            token_ids=[token.token_id],
            text=text,
            logprobs=[token.logprobs] if token.logprobs is not None else None,
            stop_reason=stop_reason,
        )
        if len(live.output) == 1:
            delta.prompt_logprobs = live.prompt_logprobs
        return delta if reason is None else self._finish(delta, reason)

    def _finish(self, delta: RequestDelta, reason: FinishReason) -> RequestDelta:
        delta.finish_reason = reason
        self._scheduler.finish(delta.request_id)
        delta.timings = self._scheduler.timings(delta.request_id)
        del self._live[delta.request_id]
        return delta


def _max_model_len(config: EngineConfig, checkpoint: Checkpoint) -> int:
    limit = checkpoint.config.max_position_embeddings
    if config.max_model_len > limit:
        raise ModelError(
            f"max_model_len {config.max_model_len} is above the model's {limit} positions",
            f"use --max-model-len {limit} or less",
        )
    return config.max_model_len or min(limit, DEFAULT_MAX_MODEL_LEN)
