"""From engine deltas to OpenAI's answers: one writer per request, for streams and whole answers.

Both writers have the same methods: `add` takes a delta and returns the stream's next chunk,
`final` returns the whole answer, `usage_chunk` the stream's last chunk. Not here: HTTP.
"""

import time
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from sixfold.core.request import Logprob, RequestDelta, Timings
from sixfold.serving.server import responses as out
from sixfold.serving.server.convert import Plan
from sixfold.serving.server.launch import ServerTokenizer

IMPOSSIBLE = -9999.0


class Prompts(msgspec.Struct, kw_only=True):
    """The prompts' token ids, and how to turn tokens into text."""

    token_ids: list[list[int]]
    tokenizer: ServerTokenizer
    model: str
    request_id: str


class Choice(msgspec.Struct):
    """What one sequence has given so far."""

    prompt_index: int
    text: list[str] = []
    num_tokens: int = 0
    offset: int = 0
    """Characters before the next token's text (completions' text_offset)."""
    started: bool = False
    logprobs: list[Any] = []
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    timings: Timings | None = None


class Writer(Protocol):
    """What the routes call."""

    def add(self, index: int, delta: RequestDelta) -> object:
        """Take a delta of choice `index`; the chunk that a stream sends for it."""
        ...

    def final(self) -> object:
        """The whole answer."""
        ...

    def usage_chunk(self) -> object:
        """The stream's last chunk: no choices, the usage."""
        ...


class Tally:
    """The choices of a request and the sums over them."""

    def __init__(self, plan: Plan, prompts: Prompts) -> None:
        self.choices = [Choice(i // plan.n) for i in range(plan.n * len(prompts.token_ids))]
        self._prompts = prompts
        self._plan = plan

    def take(self, index: int, delta: RequestDelta) -> Choice:
        """Book a delta."""
        choice = self.choices[index]
        if not self._plan.drop_output:
            choice.num_tokens += len(delta.token_ids)
            choice.text.append(delta.text)
        if delta.finish_reason is not None:
            choice.finish_reason = delta.finish_reason
            choice.stop_reason = delta.stop_reason
            choice.timings = delta.timings or Timings()
        return choice

    @property
    def done(self) -> bool:
        """True when every choice has finished."""
        return all(choice.finish_reason is not None for choice in self.choices)

    def usage(self) -> out.Usage:
        """Tokens of all choices; each prompt, and what of it was cached, counts once."""
        prompt = sum(len(ids) for ids in self._prompts.token_ids)
        completion = sum(choice.num_tokens for choice in self.choices)
        firsts = self.choices[:: self._plan.n]
        cached = sum(c.timings.cached_tokens for c in firsts if c.timings is not None)
        return out.Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=out.PromptTokensDetails(cached),
        )

    def timings(self) -> Timings:
        """The slowest choice's times; the sums of the counters."""
        each = [choice.timings or Timings() for choice in self.choices]
        slowest = max(each, key=lambda t: sum(t.parts.values()))
        return Timings(
            queue=max(t.queue for t in each),
            prefill=max(t.prefill for t in each),
            decode=max(t.decode for t in each),
            cached_tokens=sum(t.cached_tokens for t in each),
            preemptions=sum(t.preemptions for t in each),
            parts=slowest.parts,
            first_token=slowest.first_token,
        )


class CompletionWriter:
    """Answers of /v1/completions."""

    def __init__(self, plan: Plan, prompts: Prompts) -> None:
        self._plan = plan
        self._prompts = prompts
        self._tally = Tally(plan, prompts)
        self._created = int(time.time())

    def add(self, index: int, delta: RequestDelta) -> out.CompletionResponse:
        """See Writer."""
        choice = self._tally.take(index, delta)
        before = "" if choice.started else self._echo(choice)
        logprobs = self._logprobs(choice, delta)
        if before:
            choice.text.insert(0, before)
        choice.started = True
        if logprobs is not None and not self._plan.stream:
            choice.logprobs.append(logprobs)
        shown = "" if self._plan.drop_output else delta.text
        piece = out.CompletionChoice(
            index=index,
            text=before + shown,
            logprobs=logprobs,
            finish_reason=delta.finish_reason,
            stop_reason=delta.stop_reason,
        )
        timings = self._tally.timings() if self._tally.done else UNSET
        return self._response([piece], None if self._plan.include_usage else UNSET, timings)

    def final(self) -> out.CompletionResponse:
        """See Writer."""
        choices = [
            out.CompletionChoice(
                index=index,
                text="".join(choice.text),
                logprobs=_join(choice.logprobs),
                finish_reason=choice.finish_reason,
                stop_reason=choice.stop_reason,
            )
            for index, choice in enumerate(self._tally.choices)
        ]
        return self._response(choices, self._tally.usage(), self._tally.timings())

    def usage_chunk(self) -> out.CompletionResponse:
        """See Writer."""
        return self._response([], self._tally.usage(), UNSET)

    def _response(
        self,
        choices: list[out.CompletionChoice],
        usage: out.Usage | UnsetType | None,
        timings: Timings | UnsetType,
    ) -> out.CompletionResponse:
        return out.CompletionResponse(
            id=f"cmpl-{self._prompts.request_id}",
            created=self._created,
            model=self._prompts.model,
            choices=choices,
            usage=usage,
            timings=timings,
        )

    def _echo(self, choice: Choice) -> str:
        if not self._plan.echo:
            return ""
        prompt = self._plan.prompts[choice.prompt_index]
        if isinstance(prompt, str):
            return prompt
        return self._prompts.tokenizer.decode(prompt, skip_special_tokens=False)

    def _logprobs(self, choice: Choice, delta: RequestDelta) -> out.CompletionLogprobs | None:
        wanted = self._plan.params.logprobs
        if wanted is None:
            return None
        entries: list[tuple[int, list[Logprob] | None]] = []
        if self._plan.echo and delta.prompt_logprobs is not None:
            ids = self._prompts.token_ids[choice.prompt_index]
            entries += zip(ids, delta.prompt_logprobs, strict=False)
        if delta.logprobs is not None and not self._plan.drop_output:
            entries += zip(delta.token_ids, delta.logprobs, strict=False)
        result = out.CompletionLogprobs([], [], [], [])
        for token_id, best in entries:
            text = token_text(self._prompts.tokenizer, token_id)
            result.tokens.append(text)
            result.token_logprobs.append(_finite(best[0].logprob) if best else None)
            result.top_logprobs.append(self._top(best, wanted) if best else None)
            result.text_offset.append(choice.offset)
            choice.offset += len(text)
        return result

    def _top(self, best: list[Logprob], wanted: int) -> dict[str, float]:
        tokenizer = self._prompts.tokenizer
        shown = [best[0], *top_ranked(best, wanted)]
        return {token_text(tokenizer, b.token_id): _finite(b.logprob) for b in shown}


class ChatWriter:
    """Answers of /v1/chat/completions."""

    def __init__(self, plan: Plan, prompts: Prompts) -> None:
        self._plan = plan
        self._prompts = prompts
        self._tally = Tally(plan, prompts)
        self._created = int(time.time())

    def add(self, index: int, delta: RequestDelta) -> out.ChatChunk:
        """See Writer. A choice's first chunk names the role."""
        choice = self._tally.take(index, delta)
        logprobs = self._logprobs(delta)
        if logprobs is not None and not self._plan.stream:
            choice.logprobs.extend(logprobs.content)
        piece = out.ChatChunkChoice(
            index=index,
            delta=out.ChatDelta(
                role=UNSET if choice.started else "assistant",
                content=UNSET if choice.started and not delta.text else delta.text,
            ),
            logprobs=logprobs,
            finish_reason=delta.finish_reason,
            stop_reason=delta.stop_reason,
        )
        choice.started = True
        return self._chunk([piece], None if self._plan.include_usage else UNSET)

    def final(self) -> out.ChatResponse:
        """See Writer."""
        choices = [
            out.ChatChoice(
                index=index,
                message=out.ChatMessage(content="".join(choice.text)),
                logprobs=None
                if self._plan.params.logprobs is None
                else out.ChatLogprobs(choice.logprobs),
                finish_reason=choice.finish_reason,
                stop_reason=choice.stop_reason,
            )
            for index, choice in enumerate(self._tally.choices)
        ]
        return out.ChatResponse(
            id=f"chatcmpl-{self._prompts.request_id}",
            created=self._created,
            model=self._prompts.model,
            choices=choices,
            usage=self._tally.usage(),
            timings=self._tally.timings(),
        )

    def usage_chunk(self) -> out.ChatChunk:
        """See Writer."""
        return self._chunk([], self._tally.usage())

    def _chunk(
        self, choices: list[out.ChatChunkChoice], usage: out.Usage | UnsetType | None
    ) -> out.ChatChunk:
        return out.ChatChunk(
            id=f"chatcmpl-{self._prompts.request_id}",
            created=self._created,
            model=self._prompts.model,
            choices=choices,
            usage=usage,
            timings=self._tally.timings() if choices and self._tally.done else UNSET,
        )

    def _logprobs(self, delta: RequestDelta) -> out.ChatLogprobs | None:
        wanted = self._plan.params.logprobs
        if wanted is None:
            return None
        content = []
        for best in delta.logprobs or []:
            entry = self._entry(best[0])
            entry.top_logprobs = [self._entry(b) for b in top_ranked(best, wanted)]
            content.append(entry)
        return out.ChatLogprobs(content)

    def _entry(self, item: Logprob) -> out.TokenLogprob:
        raw = self._prompts.tokenizer.token_bytes(item.token_id)
        text = raw.decode("utf-8", "replace")
        return out.TokenLogprob(token=text, logprob=_finite(item.logprob), bytes=list(raw))


def token_text(tokenizer: ServerTokenizer, token_id: int) -> str:
    """A token as text; one that is no whole characters is written as OpenAI does: bytes:\\xe2."""
    raw = tokenizer.token_bytes(token_id)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _finite(logprob: float) -> float:
    """JSON has no infinity: a token that can't be chosen gets vLLM's stand-in."""
    return logprob if logprob > IMPOSSIBLE else IMPOSSIBLE


def top_ranked(best: list[Logprob], count: int) -> list[Logprob]:
    """The `count` best candidates in order, each once, the sampled one only if it is of them."""
    unique = {b.token_id: b for b in best if b.rank <= count}
    return sorted(unique.values(), key=lambda b: b.rank)


def _join(parts: list[out.CompletionLogprobs]) -> out.CompletionLogprobs | None:
    if not parts:
        return None
    whole = out.CompletionLogprobs([], [], [], [])
    for part in parts:
        whole.tokens += part.tokens
        whole.token_logprobs += part.token_logprobs
        whole.top_logprobs += part.top_logprobs
        whole.text_offset += part.text_offset
    return whole
