"""What a session's next request says: its earlier turns, the answers to them, and the new turn.

Not here: the fields that all requests of a run share (client.py), when they go (run.py).
"""

from typing import Any

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.events import Answer
from sixfold.instrument.loadgen.plan import Session, Turn


class Conversation:
    """One session as it grows.

    Chat: messages. Completions: text or ids, one after the other. Of an answer to ids the server
    must tell the ids (`token_ids` of its choices); where it does not, as many of the turn's own
    ids stand in, which keeps the next prompt's length and not its content.
    """

    def __init__(self, session: Session, chat: bool) -> None:
        self._chat = chat
        self._messages: list[dict[str, str]] = []
        self._text = session.system
        self._ids: list[int] = []
        if chat and session.system:
            self._messages.append({"role": "system", "content": session.system})

    def ask(self, turn: Turn) -> dict[str, Any]:
        """Add a turn; the fields of the request for it."""
        if self._chat:
            self._messages.append({"role": "user", "content": turn.text})
            return {"messages": self._messages, "max_tokens": turn.max_tokens}
        self._text += turn.text
        self._ids += turn.token_ids
        return {"prompt": self._ids or self._text, "max_tokens": turn.max_tokens}

    def answered(self, turn: Turn, answer: Answer) -> None:
        """Add the answer to the turn asked last."""
        if self._chat:
            self._messages.append({"role": "assistant", "content": answer.text})
        elif turn.token_ids:
            repeats = -(-answer.num_output_tokens // len(turn.token_ids))
            stand_in = (turn.token_ids * repeats)[: answer.num_output_tokens]
            self._ids += answer.token_ids or stand_in
        else:
            self._text += answer.text


def check_session(session: Session, index: int, chat: bool) -> None:
    """Raises ConfigError for a session that can't be sent."""
    if not session.turns:
        raise ConfigError(f"session {index} has no turns", "give it one")
    kinds = {bool(turn.token_ids) for turn in session.turns}
    if any(bool(turn.token_ids) == bool(turn.text) for turn in session.turns) or len(kinds) > 1:
        raise ConfigError(
            f"session {index} is neither all text nor all token ids",
            "give each turn either text or token_ids, the same for all turns of a session",
        )
    if kinds == {True} and (chat or session.system):
        raise ConfigError(
            f"session {index} has token ids where the chat API and system prompts take text",
            "send ids to the completions API, without a system prompt",
        )
