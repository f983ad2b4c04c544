"""Tokens of one request to text, as they come: whole characters only, stop conditions checked.

Purely sequential state, no I/O, and no `decode` per token: bytes of a token are a list look-up,
characters come from the standard library's incremental UTF-8 decoder, stop strings are found by
an Aho-Corasick automaton (1975), whose state also tells how much text must be held back.
Not here: choosing tokens, log probabilities, and when a request runs.

What the pieces concatenate to, with `flush`, equals `Tokenizer.decode` of all ids, but for the
leading space of some SentencePiece models: a completion continues its prompt, so its first
word keeps its space unless `at_start` says that the ids begin a text.
"""

from codecs import getincrementaldecoder
from collections import deque
from functools import lru_cache
from typing import Protocol

from sixfold.core.request import FinishReason, SamplingParams

Pushed = tuple[str, FinishReason | None, int | str | None]
"""(text that may be shown now, finish reason, stop reason)."""

_Utf8 = getincrementaldecoder("utf-8")


class TokenTexts(Protocol):
    """What is needed of a tokenizer."""

    strip_leading_space: bool

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes a token adds to the output."""

    def is_special(self, token_id: int) -> bool:
        """Whether the token is left out of texts by default."""


class StopMatcher:
    """Finds the first of several strings to be complete in a stream of characters.

    "First" is by the character that completes a match, so the answer does not depend on how the
    text was cut into tokens; of matches completed by the same character the longest counts.
    Immutable after construction; the state is an integer that the caller keeps (0 at first).
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.starts = frozenset(stop[0] for stop in stops)
        self._next: list[dict[str, int]] = [{}]
        self._fail = [0]
        self._match: list[str | None] = [None]
        self.depth = [0]
        """Per state: how many of the last characters could begin a stop string."""
        for stop in stops:
            self._insert(stop)
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            if not self._next[state]:  # a whole stop string begins nothing longer
                self.depth[state] = self.depth[self._fail[state]]
            for char, child in self._next[state].items():
                queue.append(child)
                self._fail[child] = target = self._step(self._fail[state], char)
                if self._match[child] is None:
                    self._match[child] = self._match[target]

    def _insert(self, stop: str) -> None:
        state = 0
        for char in stop:
            child = self._next[state].get(char)
            if child is None:
                child = self._next[state][char] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self._match.append(None)
                self.depth.append(self.depth[state] + 1)
            state = child
        self._match[state] = stop

    def _step(self, state: int, char: str) -> int:
        while True:
            child = self._next[state].get(char)
            if child is not None:
                return child
            if state == 0:
                return 0
            state = self._fail[state]

    def feed(self, state: int, text: str) -> tuple[int, int, str | None]:
        """(new state, characters read, stop string that they complete or None)."""
        if state == 0 and self.starts.isdisjoint(text):
            return 0, len(text), None
        for position, char in enumerate(text, 1):
            state = self._step(state, char)
            found = self._match[state]
            if found is not None:
                return state, position, found
        return state, len(text), None


@lru_cache(maxsize=64)
def _matcher(stops: tuple[str, ...]) -> StopMatcher:
    return StopMatcher(stops)


class OutputState:
    """One request's output so far. Call `push` for every sampled token.

    Once `push` gives a finish reason its text is complete; `flush` is for requests that end
    otherwise (abort, deadline) and returns what was held back.
    """

    def __init__(
        self,
        tokenizer: TokenTexts,
        params: SamplingParams,
        eos_token_ids: tuple[int, ...],
        at_start: bool = False,
    ) -> None:
        """`params.max_tokens` None means no limit. `at_start`: no prompt text comes before."""
        self._bytes_of = tokenizer.token_bytes
        self._is_special = tokenizer.is_special
        self._skip = params.skip_special_tokens
        self._eos = frozenset() if params.ignore_eos else frozenset(eos_token_ids)
        self._enders = self._eos | frozenset(params.stop_token_ids)
        self._min_tokens = params.min_tokens
        self._max_tokens = params.max_tokens
        self._include_stop = params.include_stop_str_in_output
        self._matcher = _matcher(tuple(params.stop)) if params.stop else None
        self._strip = at_start and tokenizer.strip_leading_space
        self._decode = _Utf8("replace").decode
        self._state = 0
        self._held = ""
        self.num_tokens = 0
        self.finished = False

    def push(self, token_id: int) -> Pushed:
        """Take one token: text to show now, and whether and why the request is finished.

        Until `min_tokens` tokens have come before it, no token stops the request. A stop token's
        own text, and a stop string, appear only with `include_stop_str_in_output`. `stop_reason`
        is the stop string or the stop token's id; None for end of sequence.
        """
        assert not self.finished, "push after the finish"
        self.num_tokens = count = self.num_tokens + 1
        if token_id in self._enders and count > self._min_tokens:
            return self._end_by_token(token_id)
        text = self._text(token_id)
        if self._matcher is not None:
            text, stop = self._filter(text)
            if stop is not None:
                self.finished = True
                return text, "stop", stop
        if self._max_tokens is not None and count >= self._max_tokens:
            rest, stop = self._finish()
            return text + rest, "stop" if stop else "length", stop
        return text, None, None

    def flush(self) -> str:
        """End the output: what was held back, broken characters as U+FFFD."""
        return "" if self.finished else self._finish()[0]

    def _end_by_token(self, token_id: int) -> Pushed:
        text = ""
        if self._include_stop:
            text = self._text(token_id)
            if self._matcher is not None:
                text, _ = self._filter(text, stopping=False)
        rest, _ = self._finish()
        return text + rest, "stop", None if token_id in self._eos else token_id

    def _text(self, token_id: int) -> str:
        """The characters that the token completes."""
        if self._skip and self._is_special(token_id):
            return ""
        data = self._bytes_of(token_id)
        if self._strip and data:
            self._strip = False
            data = data.removeprefix(b" ")
        return self._decode(data)

    def _filter(self, text: str, stopping: bool = True) -> tuple[str, str | None]:
        """Look for stop strings in what was held and `text`; hold back what may begin one."""
        matcher = self._matcher
        assert matcher is not None
        stopping = stopping and self.num_tokens > self._min_tokens
        done = 0
        while True:
            self._state, read, stop = matcher.feed(self._state, text[done:] if done else text)
            done += read
            if stop is None or stopping:
                break
        seen = self._held + text[:done]
        if stop is not None:
            self._held = ""
            return seen if self._include_stop else seen[: len(seen) - len(stop)], stop
        keep = len(seen) - matcher.depth[self._state]
        self._held = seen[keep:]
        return seen[:keep], None

    def _finish(self) -> tuple[str, str | None]:
        """The rest of the text, and the stop string that broken last bytes may complete."""
        self.finished = True
        tail, stop = self._decode(b"", True), None
        if self._matcher is not None:
            tail, stop = self._filter(tail) if tail else ("", None)
            tail, self._held = tail + self._held, ""
        return tail, stop
