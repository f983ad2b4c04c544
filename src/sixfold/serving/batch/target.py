"""What a job's lines are sent to: an engine here, or an endpoint. Not here: either of them."""

from typing import Protocol

import msgspec

from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.lines import Task


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back for a line: an HTTP status and a JSON body."""

    status: int
    body: bytes
    request_id: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Unavailable(SixfoldError):
    """Nobody answers at the moment: worth another try. `busy`: it lives, but has no room."""

    def __init__(self, message: str, hint: str = "", busy: bool = False) -> None:
        super().__init__(message, hint)
        self.busy = busy


class Target(Protocol):
    """Answers tasks, many at once."""

    places: int
    """Tasks that may be given to it at once."""

    async def answer(self, task: Task, ticket: int) -> Answer:
        """Run it. Lower tickets go first where there is a queue. Raises Unavailable."""
        ...


class TokenCounts(msgspec.Struct):
    """What is read of any answer's `usage`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: dict[str, int | None] | None = None


class _Usage(msgspec.Struct):
    usage: TokenCounts | None = None


def usage_of(body: bytes) -> TokenCounts:
    """Of an answer; zeros where it says nothing."""
    try:
        return msgspec.json.decode(body, type=_Usage).usage or TokenCounts()
    except (msgspec.MsgspecError, ValueError):
        return TokenCounts()


def answered(status: int, body: bytes, request_id: str = "") -> Answer:
    """An answer with its counts read out of its body."""
    usage = usage_of(body) if status == 200 else TokenCounts()
    details = usage.prompt_tokens_details or {}
    return Answer(
        status=status, body=body, request_id=request_id, prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens, cached_tokens=details.get("cached_tokens") or 0,
    )  # fmt: skip
