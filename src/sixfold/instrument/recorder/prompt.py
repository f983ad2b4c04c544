"""The prompt of a request's body, as messages in the order in which a model reads them.

Tools and instructions come first, whatever their place in the body: templates put them there. JSON
keeps the order of its keys, as a template that writes it out does. Images and the like become a
short hash. Reads /v1/completions, /v1/chat/completions, /v1/responses and /v1/messages.
Not here: hashes and lengths (entry), the answer (observe).
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from sixfold.instrument.recorder.entry import Message, Sampling

IDS = "ids"
"""The role of a prompt of token ids, which are written as numbers."""
_TOOLS = ("tools", "functions")
_SYSTEM = ("instructions", "system")
_PROMPTS = ("messages", "input", "prompt")
_MOST = 1e18
_CALLS = ("tool_calls", "function_call")


def messages_of(body: Mapping[str, Any]) -> tuple[Message, ...]:
    """All of a body's prompt; empty for a body that has none."""
    found = [Message("tools", _json(body[key])) for key in _TOOLS if body.get(key)]
    found += [Message("system", _text(body[key])) for key in _SYSTEM if body.get(key)]
    for key in _PROMPTS:
        found += _prompt(body.get(key))
    return tuple(found)


def sampling_of(body: Mapping[str, Any]) -> Sampling:
    """What a body says of sampling; a value of the wrong type counts as none."""
    limits = (body.get(k) for k in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    stop = body.get("stop") or body.get("stop_sequences") or ()
    return Sampling(
        temperature=_number(body.get("temperature")),
        top_p=_number(body.get("top_p")),
        max_tokens=next((limit for limit in map(_whole, limits) if limit is not None), None),
        seed=_whole(body.get("seed")),
        n=_whole(body.get("n")),
        stop=1 if isinstance(stop, str) else len(stop) if isinstance(stop, list) else 0,
        stream=body.get("stream") is True,
    )


def _prompt(value: Any) -> Iterator[Message]:
    if isinstance(value, str) and value:
        yield Message("", value)
    elif isinstance(value, list) and value and all(type(item) is int for item in value):
        yield Message(IDS, " ".join(map(str, value)))
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield _message(item)
            else:
                yield from _prompt(item)


def _message(item: Mapping[str, Any]) -> Message:
    """One message; an item of another kind, such as a tool's result, is its JSON."""
    if "role" not in item:
        return Message(str(item.get("type", "item")), _json(item))
    calls = "".join([_json(item[key]) for key in _CALLS if item.get(key)])
    return Message(str(item["role"]), _text(item.get("content")) + calls)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(map(_part, content)) if isinstance(content, list) else _json(content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type", "part") if isinstance(part, dict) else "part"
    return f"[{kind} {blake2b(_json(part).encode(), digest_size=8).hexdigest()}]"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _number(value: Any) -> float | None:
    if type(value) not in (int, float) or not abs(value) < _MOST:
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 1 << 63 else None
