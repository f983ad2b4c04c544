"""LLMEngine: requests in, deltas out, one step at a time.

The step is the story: schedule, execute, update, outputs. Each part lives in its own room; this
file only joins them. Not here: threads, processes, HTTP (serving/), whole-prompt calls (llm.py).
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sixfold.core.config import BLOCK_SIZE, EngineConfig, ModelConfig
from sixfold.core.errors import ConfigError, ModelError, RequestError
from sixfold.core.metrics import EngineStats
from sixfold.core.request import (
    EngineRequest,
    FinishReason,
    Logprob,
    RequestDelta,
    check_token_ids,
)
from sixfold.engine.kernels.program import Program
from sixfold.engine.kernels.reference_attention import KeyFrames
from sixfold.engine.kv_publisher import KVPublisher
from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.models.checkpoint import Checkpoint, open_checkpoint
from sixfold.engine.models.registry import resolve, sixfold_home
from sixfold.engine.models.tokenizer import Tokenizer, load_tokenizer
from sixfold.engine.models.weights import Progress, Weights, auto_dtype
from sixfold.engine.offload.build import build_offloader
from sixfold.engine.output import OutputState
from sixfold.engine.runner.calibration import Source
from sixfold.engine.runner.executor import build_executor, build_program
from sixfold.engine.runner.key_frames import digest, key_frames
from sixfold.engine.runner.model_runner import ModelRunner, RequestView, SampledToken, StepResult
from sixfold.engine.runner.pooling import Pooler
from sixfold.engine.runner.sampling_batch import SamplingBatch
from sixfold.engine.runner.step_input import StepInputBuilder
from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.output import SchedulerOutput
from sixfold.engine.scheduler.scheduler import Scheduler
from sixfold.engine.speculative.build import Target, build_speculator
from sixfold.engine.speculative.speculator import Decoding, Drafting
from sixfold.engine.stats import Totals, engine_stats
from sixfold.engine.step_clock import Spent, StepClock

DEFAULT_MAX_MODEL_LEN = 8192
IDLE_SECONDS = 0.001
"""Between looks at requests of which none may start yet."""


Ready = tuple[RequestDelta, FinishReason | None]
"""What goes out, and whether its request is over with it."""


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
        program = build_program(checkpoint.config)
        source = Source(checkpoint, self.dtype, cache_dir)
        weights = source.load(program, self.tokenizer.encode, progress)
        self._build(program, weights, source)
        self._live: dict[str, _Live] = {}
        self._totals = Totals()
        self._clock = StepClock(self._spent, config.trace_file)

    def _build(self, program: Program, weights: Weights, source: Source) -> None:
        config, checkpoint = self.config, source.checkpoint
        frames: KeyFrames = {}
        if config.kv_cache_dtype == "int8":
            frames = key_frames(source, program, weights, self.tokenizer.encode)
        executor, num_blocks = build_executor(
            program, weights, config, self.max_model_len, source.cache, frames
        )
        # Block 0 is nobody's.
        self.num_kv_tokens = (min(num_blocks) - 1) * BLOCK_SIZE
        reserved = self.max_model_len if config.kv_cache == "contiguous" else 0
        if reserved > self.num_kv_tokens:
            raise ConfigError(
                f"a contiguous KV cache of {min(num_blocks) - 1} blocks has no room for a request "
                f"of {reserved} tokens",
                "raise --kv-cache-memory-mb, or lower --max-model-len",
            )
        model_key = "-".join(
            (checkpoint.content_key, self.dtype, config.kv_cache_dtype, digest(frames))
        )
        self._offloader = build_offloader(config, program, executor, model_key)
        kv = KVCacheManager(
            groups=program.kv_groups,
            num_blocks=num_blocks,
            model_key=model_key,
            enable_prefix_caching=config.enable_prefix_caching and not reserved,
            reserved_tokens=reserved,
        )
        self._publisher = (
            KVPublisher(config.kv_events, config.kv_events_replay) if (config.kv_events) else None
        )
        self._events = kv.tell() if self._publisher is not None else None
        self._changes = kv.use_tier(self._offloader) if self._offloader is not None else None
        self._scheduler = Scheduler(_scheduler_config(config, self.max_model_len), kv)
        groups = len(program.kv_groups)
        builder = StepInputBuilder(groups, config.max_num_seqs, self.max_model_len)
        sampling = SamplingBatch(config.max_num_seqs, self.eos_token_ids, config.seed)
        pooler = Pooler(program, weights, executor.value)
        self._runner = ModelRunner(executor, builder, sampling, pooler)
        self._speculator = build_speculator(
            Target(
                config, checkpoint, self.tokenizer, program, self.dtype, executor, num_blocks,
                builder, sampling, self.max_model_len, source.cache,
            )
        )  # fmt: skip

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
        self._clock.add(request)
        self._totals.prompt_tokens += len(request.prompt_token_ids)

    def abort(self, request_id: str) -> None:
        """Forget a request and free its blocks, whatever it was doing. Unknown ids are ignored."""
        live = self._live.pop(request_id, None)
        if live is not None:
            self._scheduler.abort(request_id)
            self._forget_drafts(request_id, live)
            self._clock.forget(request_id)

    def step(self) -> list[RequestDelta]:
        """Run one step and say what it gave: schedule -> execute -> update -> outputs."""
        began = time.perf_counter()
        deltas = self._step()
        self._totals.busy(began, time.perf_counter(), bool(self._live))
        return deltas

    def _step(self) -> list[RequestDelta]:
        began = time.monotonic()
        drafts = self._plan_drafts()
        output = self._scheduler.schedule(began, drafts)
        self._load(output)
        deltas = [self._expire(request_id) for request_id in output.expired]
        self._totals.batched_tokens = output.num_batched_tokens
        if output.chunks:
            self._totals.steps += 1
            result = self._execute(output)
            sampled = {
                name: [token.token_id for token in tokens]
                for name, tokens in result.sampled.items()
            }
            self._scheduler.update_from_output(output, sampled, time.monotonic())
            text_began = time.monotonic()
            ready = self._outputs(result)
            self._keep(output, self._clock.book(output, result.sampled, began, text_began))
            deltas += [d if reason is None else self._finish(d, reason) for d, reason in ready]
            self._publish()
        elif not deltas:
            time.sleep(IDLE_SECONDS)  # a dynamic batch waits for company
        return deltas

    def _load(self, output: SchedulerOutput) -> None:
        """Before the step runs: keep what it would overwrite, bring in what it counts on."""
        if self._offloader is None or self._changes is None:
            return
        self._offloader.evicted(self._changes.take_evicted())
        if not self._offloader.load(output.loads):
            self._scheduler.unadmit(output)

    def _keep(self, output: SchedulerOutput, seconds: float) -> None:
        """After the step: offload what is full now."""
        if self._offloader is None or self._changes is None:
            return
        self._offloader.stored(self._changes.take_stored())
        prompts = sum(len(c.token_ids) for c in output.chunks if len(c.token_ids) > BLOCK_SIZE)
        if prompts > output.num_batched_tokens / 2:
            self._offloader.policy.computed(prompts / BLOCK_SIZE, seconds)

    def close(self) -> None:
        """Let go of what is outside this process; write what waits to be written."""
        for part in (self._offloader, self._publisher, self._clock):
            if part is not None:
                part.close()

    def _spent(self) -> Spent:
        seconds = self._runner.seconds()
        sampling = seconds.get("sampling", 0.0)
        counted = Drafting() if self._speculator is None else self._speculator.counted
        forward = sum(seconds.values()) - sampling
        loading = 0.0 if self._offloader is None else self._offloader.counts.seconds
        return forward, sampling, counted.seconds, counted.wasted_seconds, loading

    def _plan_drafts(self) -> dict[str, int]:
        if self._speculator is None:
            return {}
        # Backfill drafts nothing: its rows are filled up to what interactive requests can spare.
        lives = [live for live in self._live.values() if not live.request.backfill]
        decoding = [Decoding(live.request, live.output) for live in lives if live.output]
        if not decoding:
            return {}
        waiting = sum(len(live.request.prompt_token_ids) for live in lives if not live.output)
        waiting += self._scheduler.backfill_rows
        room = max(0, self.config.max_num_batched_tokens - len(decoding))
        return self._speculator.plan(decoding, min(waiting, room))

    def _execute(self, output: SchedulerOutput) -> StepResult:
        speculator = self._speculator
        if speculator is None:
            return self._runner.execute(output.chunks, self._view)
        speculator.fill(output.chunks, self._drafting)
        began = time.perf_counter()
        result = self._runner.execute(output.chunks, self._view)
        counts = {name: len(tokens) for name, tokens in result.sampled.items()}
        speculator.learn(output.chunks, counts, time.perf_counter() - began)
        return result

    def has_unfinished(self) -> bool:
        """True while a request is queued or running."""
        return bool(self._live)

    def reset_prefix_cache(self) -> bool:
        """Forget cached prefixes, offloaded ones too; blocks in use stay. True if it was done."""
        done = self._scheduler.reset_prefix_cache()
        if self._offloader is not None:
            self._offloader.reset()
        self._publish()
        return done

    def _publish(self) -> None:
        if self._publisher is not None and self._events is not None:
            self._publisher.publish(self._events.take())

    def stats(self) -> EngineStats:
        """Counters since the start, and gauges of now."""
        return engine_stats(
            self._totals, self._scheduler.stats(), self._runner.seconds(), self._speculator,
            self._offloader,
        )  # fmt: skip

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

    def _drafting(self, request_id: str) -> Decoding:
        live = self._live[request_id]
        return Decoding(live.request, live.output)

    def _forget_drafts(self, request_id: str, live: _Live) -> None:
        if self._speculator is not None:
            self._speculator.forget(request_id, live.output)

    def _expire(self, request_id: str) -> RequestDelta:
        live = self._live.pop(request_id)
        self._forget_drafts(request_id, live)
        return RequestDelta(
            request_id=request_id,
            finish_reason="deadline",
            error="the request's deadline passed",
            timings=self._clock.end(live.request, self._scheduler.timings(request_id)),
        )

    def _outputs(self, result: StepResult) -> list[Ready]:
        for request_id, scores in result.prompt_logprobs.items():
            known = self._live[request_id].prompt_logprobs
            if known is not None:
                # A preempted request computes its prompt again: keep what was sent in order.
                known.extend(scores[p] for p in sorted(scores) if p == len(known) or p > len(known))
        ready = [self._advance(name, tokens) for name, tokens in result.sampled.items()]
        for request_id, vector in result.embeddings.items():
            ready.append((RequestDelta(request_id=request_id, embedding=vector), "stop"))
        return ready

    def _advance(self, request_id: str, tokens: list[SampledToken]) -> Ready:
        """Add tokens to their request, as far as it goes."""
        live = self._live[request_id]
        delta = RequestDelta(request_id=request_id)
        if not live.output:
            delta.prompt_logprobs = live.prompt_logprobs
        for token in tokens:
            if token.failed:
                delta.error = "the model gave no finite logits"
                return delta, "error"
            live.output.append(token.token_id)
            self._totals.generated += 1
            text, reason, delta.stop_reason = live.text.push(token.token_id)
            delta.token_ids.append(token.token_id)
            delta.text += text
            if token.logprobs is not None:
                delta.logprobs = [*(delta.logprobs or ()), token.logprobs]
            if reason is not None:
                return delta, reason
        if self._scheduler.reached_max_len(request_id):
            delta.text += live.text.flush()
            return delta, "length"
        return delta, None

    def _finish(self, delta: RequestDelta, reason: FinishReason) -> RequestDelta:
        delta.finish_reason = reason
        self._scheduler.finish(delta.request_id)
        live = self._live.pop(delta.request_id)
        self._forget_drafts(delta.request_id, live)
        delta.timings = self._clock.end(live.request, self._scheduler.timings(delta.request_id))
        return delta


def _scheduler_config(config: EngineConfig, max_model_len: int) -> SchedulerConfig:
    return SchedulerConfig(
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_model_len=max_model_len,
        policy=config.scheduling_policy,
        batching=config.batching,
        max_batch_delay=config.max_batch_delay_ms / 1e3,
        interactive_slowdown=config.interactive_slowdown,
    )


def _max_model_len(config: EngineConfig, checkpoint: Checkpoint) -> int:
    limit = checkpoint.config.max_position_embeddings
    if config.max_model_len > limit:
        raise ModelError(
            f"max_model_len {config.max_model_len} is above the model's {limit} positions",
            f"use --max-model-len {limit} or less",
        )
    return config.max_model_len or min(limit, DEFAULT_MAX_MODEL_LEN)
