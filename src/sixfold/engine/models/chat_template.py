"""Chat messages to one prompt text, by the template that came with the model.

A template is a program from a model file, so it is not trusted: jinja2's sandbox keeps it from
Python's objects, but not from looping over range(10**9) or doubling a string 60 times. Limits
inside the interpreter (counting loop turns, patching `range`, `*`, filters) never cover
everything, a process does: templates run in one helper process, started at the first use and
kept, with a memory limit, and killed when a render exceeds `TIMEOUT_SECONDS`. A usual render
there takes well under a millisecond. Templates of the registry's own models are known by
their hash and render in this process: they are linear in the messages, and then the default model
needs no second process.

Not here: tokenizing the result, tool-call parsing. `render` may block for `TIMEOUT_SECONDS` (and
for the helper's start the first time): an event loop calls it on a thread.
"""

import atexit
import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sixfold.core.errors import RequestError
from sixfold.engine.models import template_worker

TIMEOUT_SECONDS = 1.0
START_SECONDS = 30.0
MAX_MESSAGES = 10_000
MAX_INPUT_BYTES = 16 << 20

ALLOWED_VARIABLES = frozenset(
    {
        "add_generation_prompt",
        "date_string",
        "documents",
        "enable_thinking",
        "reasoning_effort",
        "thinking",
        "thinking_budget",
        "tools",
    }
)
"""Template variables that a request may set; everything else is ours or the template's own."""

KNOWN_TEMPLATES = frozenset(
    {
        # SmolLM2-135M-Instruct, from its GGUF file
        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    }
)
"""SHA-256 of templates read and found harmless."""


def render(
    template: str | None,
    messages: list[dict[str, Any]],
    variables: Mapping[str, Any],
    special_tokens: Mapping[str, str],
) -> str:
    """The prompt text. Raises RequestError, whose text is the template's own refusal if it has one.

    `special_tokens` are bos_token, eos_token ..., `variables` those of `ALLOWED_VARIABLES`.
    """
    if template is None:
        raise RequestError(
            "this model has no chat template",
            "use completions with a prompt, or an instruction-tuned model",
            param="messages",
        )
    unknown = sorted(set(variables) - ALLOWED_VARIABLES)
    if unknown:
        raise RequestError(
            f"chat template variable {unknown[0]!r} is not allowed",
            f"known ones: {', '.join(sorted(ALLOWED_VARIABLES))}",
            param="chat_template_kwargs",
        )
    values = {**special_tokens, **variables, "messages": plain_messages(messages)}
    if len(template) > template_worker.MAX_TEMPLATE_CHARS:
        raise _failed("size", "the template itself is too long")
    frame = _frame(template, values)
    if hashlib.sha256(template.encode(errors="replace")).hexdigest() in KNOWN_TEMPLATES:
        answer = template_worker.render(template, values)
    else:
        answer = _WORKER.ask(frame)
    if "text" not in answer:
        raise _failed(answer.get("kind", "broken"), answer.get("error", "no answer"))
    return answer["text"]


def plain_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages whose contents are strings: text parts are joined by newlines.

    Raises RequestError for other shapes, and for parts that are no text (images, audio).
    """
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise RequestError(
            f"messages must be a list of 1 to {MAX_MESSAGES} messages",
            'send [{"role": "user", "content": "..."}]',
            param="messages",
        )
    return [_plain_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _plain_message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise RequestError(
            f"{where} must be an object with a role", 'as {"role": "user", ...}', param="messages"
        )
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(_part_text(part, f"{where}.content") for part in content)
    elif content is None and (message.get("tool_calls") or message["role"] == "assistant"):
        content = ""
    elif not isinstance(content, str):
        raise RequestError(
            f"{where}.content must be a string or a list of text parts",
            'as {"role": "user", "content": "..."}',
            param="messages",
        )
    return {**message, "content": content}


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise RequestError(
        f"{where} has a part of type {str(kind)[:40]!r}",
        'this model reads text only: {"type": "text", "text": "..."}',
        param="messages",
    )


def _frame(template: str, values: dict[str, Any]) -> bytes:
    try:
        frame = json.dumps({"template": template, "variables": values}).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"messages cannot be written as JSON: {error}", "send plain JSON", param="messages"
        ) from None
    if len(frame) > MAX_INPUT_BYTES:
        raise RequestError(
            f"messages exceed {MAX_INPUT_BYTES >> 20} MiB", "send less", param="messages"
        )
    return frame


def _failed(kind: str, message: str) -> RequestError:
    if kind == "refused":
        return RequestError(message, "the model's chat template says so", param="messages")
    if kind == "size":
        return RequestError(
            f"the chat template failed: {message}", "send fewer or shorter messages", "messages"
        )
    return RequestError(
        f"the chat template failed: {message}",
        "the template may not know these roles or fields; or use completions with a prompt",
        param="messages",
    )


class TemplateWorker:
    """The helper process: started lazily, asked one frame at a time, killed when it is late."""

    def __init__(self, timeout: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def ask(self, frame: bytes) -> dict[str, str]:
        """Send a line, return the answer. What times out or dies answers with an error.

        A process found dead, say by the system's want of memory, is replaced once.
        """
        with self._lock:
            for fresh in (self._socket is None, True):
                try:
                    link = self._socket or self._start()
                    return _exchange(link, frame, self._timeout)
                except TimeoutError:
                    self._stop()
                    return _late(self._timeout)
                except (OSError, ValueError):
                    self._stop()
                    if fresh:
                        break
            return {"kind": "size", "error": "its process died"}

    def close(self) -> None:
        """End the process; the next `ask` starts another."""
        with self._lock:
            self._stop()

    def _start(self) -> socket.socket:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(template_worker.__file__))],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
            )
        _exchange(self._socket, b"", START_SECONDS)  # it says that it is up
        return self._socket

    def _stop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()
        self._socket = self._process = None


def _late(seconds: float) -> dict[str, str]:
    return {"kind": "size", "error": f"it ran for more than {seconds} s"}


def _exchange(link: socket.socket, frame: bytes, seconds: float) -> dict[str, str]:
    """Send a line and read one. Raises TimeoutError, OSError or ValueError."""
    deadline = time.monotonic() + seconds
    link.settimeout(seconds)
    link.sendall(frame)
    data = bytearray()
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        link.settimeout(left)
        part = link.recv(1 << 18)
        if not part:
            raise ConnectionError("closed")
        data += part
    answer = json.loads(data)
    if not isinstance(answer, dict):
        raise ValueError("not an answer")
    return answer


_WORKER = TemplateWorker()
atexit.register(_WORKER.close)
