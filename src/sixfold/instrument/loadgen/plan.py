"""What is to be sent and what came of it: plain records between workloads, runner and reports.

Not here: making them (workloads), times (arrivals), sockets (client), sums (report).
"""

import msgspec

from sixfold.core.metrics import RequestTrace


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a session.

    Exactly one of `text` and `token_ids` is set. It is what this turn adds: the runner puts the
    session's earlier turns and the answers to them before it.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    max_tokens: int
    think_time: float = 0.0
    """Seconds from the end of the previous turn's answer to this request."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Turns that follow one another; the unit that arrives. One turn: a single request."""

    turns: tuple[Turn, ...]
    system: str = ""
    """System prompt, sent before the first turn (text only)."""
    at: float | None = None
    """When it arrives, in seconds from the start, where a trace says so."""
    slo_class: str = ""
    """The class whose objectives it is held to; empty: the default's."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the client saw it."""

    trace: RequestTrace
    session: int
    """Index of its session."""
    turn: int = 0
    slo_class: str = ""
    planned: float
    """When it should have been sent, on the clock of `trace`: the arrival minus this is the
    client's own scheduling error."""
    num_output_tokens: int = 0
    """As the server counted them, where it did; else chunks that held text."""
    num_cached_tokens: int | None = None
    """Prompt tokens from the prefix cache; None: the server does not say."""
    text: str = ""
    finish_reason: str = ""
    error: str = ""
    """Why it failed, in one line; empty if it did not."""
