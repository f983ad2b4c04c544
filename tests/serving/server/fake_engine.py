"""A deterministic engine behind LLMEngine's interface, for tests of the server.

Tokens are bytes: the prompt's ids are echoed, shifted, so that every request's output is known
in advance. One token per request and step. Some prompts misbehave on purpose:

    raise-add   add_request raises ValueError        raise-step  its first step raises
    hang        its first step never returns         kill        its first step kills the process
    slow        the engine sleeps a little in steps  stutter     one token every 4 steps
"""

import os
import signal
import time
from dataclasses import dataclass

from sixfold.core.config import EngineConfig
from sixfold.core.errors import ModelError, RequestError
from sixfold.core.metrics import EngineStats
from sixfold.core.request import EngineRequest, Logprob, RequestDelta, Timings

FAKE_MODELS = ("fake", "no-such-model", "dies-at-start")
VOCAB_SIZE = 256
MAX_MODEL_LEN = 512
EOS = 0
SLOW_SECONDS = 0.02


def output_token(prompt: list[int], position: int) -> int:
    """The token that the fake model puts at `position` of its output: printable, never EOS."""
    return 97 + (prompt[position % len(prompt)] + position + len(prompt)) % 26


def expected_text(prompt: str, num_tokens: int) -> str:
    """The text of a request's output, of `num_tokens` tokens."""
    ids = list(prompt.encode())
    return "".join(chr(output_token(ids, i)) for i in range(num_tokens))


@dataclass
class _ModelConfig:
    vocab_size: int = VOCAB_SIZE


@dataclass
class _Sequence:
    request: EngineRequest
    text: str
    num_output: int = 0
    steps: int = 0


class FakeTokenizer:
    """One token per byte."""

    vocab_size = VOCAB_SIZE
    bos_token_id: int | None = None
    eos_token_ids = (EOS,)
    chat_template: str | None = "bytes"

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True):
        return list(text.encode())

    def min_tokens(self, text: str) -> int:
        return len(text)

    def decode(self, ids, skip_special_tokens: bool = True) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])

    def is_special(self, token_id: int) -> bool:
        return token_id == EOS

    def apply_chat_template(self, messages, add_generation_prompt: bool = True, **kwargs) -> str:
        if messages[0]["role"] == "assistant":
            raise ValueError("conversations start with the user")
        return "".join(f"{m['role'][0]}:{m['content']}\n" for m in messages)


class FakeEngine:
    """See the module."""

    def __init__(self, config: EngineConfig) -> None:
        if config.model == "no-such-model":
            raise ModelError("there is no model no-such-model", "try another one")
        if config.model == "dies-at-start":
            os.kill(os.getpid(), signal.SIGKILL)
        self.config = config
        self.tokenizer = FakeTokenizer()
        self.model_config = _ModelConfig()
        self.max_model_len = MAX_MODEL_LEN
        self._running: dict[str, _Sequence] = {}
        self._waiting: dict[str, _Sequence] = {}
        self._prompt_tokens = 0
        self._generation_tokens = 0

    def add_request(self, request: EngineRequest) -> None:
        request.params.validate(VOCAB_SIZE)
        ids = request.prompt_token_ids
        if not 0 < len(ids) < MAX_MODEL_LEN or min(ids) < 0 or max(ids) >= VOCAB_SIZE:
            raise RequestError("the prompt is no prompt", param="prompt")
        text = bytes(request.prompt_token_ids).decode("utf-8", "replace")
        if "raise-add" in text:
            raise ValueError("a bug in the fake engine")
        if "refuse-add" in text:
            raise RequestError("refused", "say something else", param="prompt")
        self._waiting[request.request_id] = _Sequence(request, text)

    def abort(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)
        self._running.pop(request_id, None)

    def has_unfinished(self) -> bool:
        return bool(self._waiting or self._running)

    def reset_prefix_cache(self) -> bool:
        return not self.has_unfinished()

    def step(self) -> list[RequestDelta]:
        while self._waiting and len(self._running) < self.config.max_num_seqs:
            name = next(iter(self._waiting))
            self._running[name] = self._waiting.pop(name)
            self._prompt_tokens += len(self._running[name].request.prompt_token_ids)
        now = time.monotonic()
        late = [
            name
            for name, sequence in (self._running | self._waiting).items()
            if sequence.request.deadline is not None and now > sequence.request.deadline
        ]
        for name in late:
            self.abort(name)
        sequences = list(self._running.values())
        for sequence in sequences:
            _misbehave(sequence)
        if any("slow" in sequence.text for sequence in sequences):
            time.sleep(SLOW_SECONDS)
        expired = [RequestDelta(request_id=name, finish_reason="deadline") for name in late]
        return expired + [d for s in sequences if (d := self._advance(s)) is not None]

    def _advance(self, sequence: _Sequence) -> RequestDelta | None:
        sequence.steps += 1
        if "stutter" in sequence.text and sequence.steps % 4:
            return None
        request, position = sequence.request, sequence.num_output
        token = output_token(request.prompt_token_ids, position)
        sequence.num_output += 1
        self._generation_tokens += 1
        room = MAX_MODEL_LEN - len(request.prompt_token_ids)
        limit = min(request.params.max_tokens or room, room)
        reason = "length" if sequence.num_output >= limit else None
        if token in request.params.stop_token_ids:
            reason = "stop"
        if reason is not None:
            del self._running[request.request_id]
        delta = RequestDelta(
            request_id=request.request_id,
            token_ids=[token],
            text=chr(token),
            finish_reason=reason,
            stop_reason=token if reason == "stop" else None,
            timings=Timings(queue=0.001, prefill=0.002, decode=0.003, cached_tokens=3)
            if reason
            else None,
        )
        if request.params.logprobs is not None:
            delta.logprobs = [_logprobs(token, request.params.logprobs)]
        if request.params.prompt_logprobs is not None and position == 0:
            count = request.params.prompt_logprobs
            rest = [_logprobs(t, count) for t in request.prompt_token_ids[1:]]
            delta.prompt_logprobs = [None, *rest]
        return delta

    def close(self) -> None:
        pass

    def stats(self) -> EngineStats:
        return EngineStats(
            num_requests_running=len(self._running),
            num_requests_waiting=len(self._waiting),
            kv_cache_usage=min(1.0, len(self._running) / self.config.max_num_seqs),
            num_batched_tokens=len(self._running),
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
        )


def _logprobs(token: int, count: int) -> list[Logprob]:
    best = [Logprob((token + i) % VOCAB_SIZE, -0.5 - i, i + 1) for i in range(count)]
    return [Logprob(token, -0.5, 1), *best]


def _misbehave(sequence: _Sequence) -> None:
    if sequence.steps >= 2 and "late-" in sequence.text:
        # late-raise-step, late-hang, late-kill: only after some tokens have gone out.
        _do(sequence.text.split("late-", 1)[1])
    elif sequence.steps == 0 and "late-" not in sequence.text:
        _do(sequence.text)


def _do(text: str) -> None:
    if "raise-step" in text:
        raise ValueError("a bug in the fake engine's step")
    if "hang" in text:
        time.sleep(3600)
    if "kill" in text:
        os.kill(os.getpid(), signal.SIGKILL)
