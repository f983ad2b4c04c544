"""Workloads by name for the command line: `chat:turns=4,system=300`, `trace:file=x.jsonl,speed=2`.

Several joined by `;` are sent together, each with a class if it is to have objectives of its own:
`chat:class=chat,count=8; rag:class=batch`. Values can't hold a comma or a semicolon.
Not here: the workloads themselves (synthetic, files, traces).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.plan import Session
from sixfold.instrument.workloads import files, synthetic, traces
from sixfold.instrument.workloads.content import (
    Content,
    Length,
    checked,
    parse_length,
    stream,
)
from sixfold.instrument.workloads.files import ClassName
from sixfold.instrument.workloads.holdout import HELD_OUT, PART


class Preset(msgspec.Struct, frozen=True):
    """A workload's config type and its pure function of (config, seed)."""

    config: type[msgspec.Struct]
    builder: Callable[[Any, int], list[Session]]


PRESETS: Mapping[str, Preset] = {
    "random": Preset(synthetic.RandomConfig, synthetic.random_lengths),
    "sharegpt": Preset(files.ShareGptConfig, files.sharegpt),
    "shared-prefix": Preset(synthetic.TreeConfig, synthetic.prefix_tree),
    "chat": Preset(synthetic.ChatConfig, synthetic.chat),
    "rag": Preset(synthetic.RagConfig, synthetic.rag),
    "code": Preset(synthetic.CodeConfig, synthetic.code),
    "agentic": Preset(synthetic.AgenticConfig, synthetic.agentic),
    "jsonl": Preset(files.JsonlConfig, files.jsonl),
    "trace": Preset(traces.TraceConfig, traces.trace),
}


FROM_FILES = ("jsonl", "sharegpt")
"""Their prompts are not made by seed."""
MIX = "mix"
CLASS = "class"


class Workload(msgspec.Struct, frozen=True):
    """A named workload with its config."""

    name: str
    config: msgspec.Struct
    slo_class: str = ""
    """The class of its sessions that say none themselves."""

    def build(self, seed: int) -> list[Session]:
        """Its sessions. Raises ConfigError for a missing or damaged file."""
        if isinstance(self.config, MixConfig):
            return _mixed(self.config, seed)
        sessions = PRESETS[self.name].builder(self.config, seed)
        if not self.slo_class:
            return sessions
        replace = msgspec.structs.replace
        return [s if s.slo_class else replace(s, slo_class=self.slo_class) for s in sessions]

    def not_held_out(self, seed: int) -> str:
        """Says that other seeds send the same prompts; empty for those that are made up by seed."""
        parts = self.config.parts if isinstance(self.config, MixConfig) else (self,)
        files = [part for part in parts if part._has_prompts()]
        here = {_what(session) for part in files for session in part.build(seed)}
        there = {_what(session) for part in files for session in part.build(seed ^ HELD_OUT)}
        if not here & there:
            return ""
        return (
            f"{len(here & there)} of {len(here)} prompts are sent by other seeds, too: the file is "
            "too short to hold some out, has some twice, or holdout=false"
        )

    def _has_prompts(self) -> bool:
        """Its prompts are a file's own."""
        if isinstance(self.config, traces.TraceConfig):
            return traces.sends_text(self.config)
        return self.name in FROM_FILES


def _what(session: Session) -> Session:
    """A session without its time."""
    return msgspec.structs.replace(session, at=None)


class MixConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Several workloads at once, their sessions in a random order."""

    parts: tuple[Workload, ...]
    count: int | None = None
    """Sessions in all, shared out as the parts' own counts are; None where a part is a file's."""


def _mixed(config: MixConfig, seed: int) -> list[Session]:
    """The parts' prompts differ, even of like parts: each has a seed of its own."""
    counts = [getattr(part.config, "count", 0) for part in config.parts]
    share = config.count / sum(counts) if config.count else 1.0
    sessions: list[Session] = []
    for number, (part, count) in enumerate(zip(config.parts, counts, strict=True)):
        if count:
            inner = msgspec.structs.replace(part.config, count=max(1, math.ceil(count * share)))
            part = msgspec.structs.replace(part, config=inner)
        sessions += part.build(seed + number * PART)
    stream(seed, MIX).shuffle(sessions)
    return sessions


def parse_workload(spec: str) -> Workload:
    """`name` or `name:key=value,key=value`; several, joined by `;`.

    Raises ConfigError, with the nearest name in its hint, for unknown names and keys, for values
    of the wrong type or out of bounds, and for keys that lack.
    """
    parts = tuple(_parse_one(part) for part in spec.split(";"))
    if len(parts) == 1:
        return parts[0]
    counts = [getattr(part.config, "count", None) for part in parts]
    known = [count for count in counts if count is not None]
    total = sum(known) if len(known) == len(parts) else None
    return Workload(MIX, MixConfig(parts=parts, count=total))


def _parse_one(spec: str) -> Workload:
    name, _, rest = spec.partition(":")
    name = name.strip()
    if name not in PRESETS:
        raise ConfigError(f"unknown workload {name[:40]!r}", _nearest(name, PRESETS))
    kind = PRESETS[name].config
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    inner = {field.name: field for field in msgspec.structs.fields(Content)}
    values: dict[str, Any] = {}
    contents: dict[str, Any] = {}
    classes: dict[str, Any] = {}
    for key, text in _pairs(name, rest):
        target: dict[str, Any]
        kind_of: Any
        if key == CLASS:
            target, kind_of = classes, ClassName
        elif key in fields and key != "content":
            target, kind_of = values, fields[key].type
        elif key in inner and "content" in fields:
            target, kind_of = contents, inner[key].type
        else:
            hint = _nearest(key, keys_of(kind))
            raise ConfigError(f"workload {name} has no key {key[:40]!r}", hint)
        if key in target:
            raise ConfigError(f"{name}: {key} is given twice", "give it once")
        target[key] = _convert(f"{name}: {key}", text, kind_of)
    if contents:
        values["content"] = Content(**contents)
    lacking = [f.name for f in fields.values() if f.required and f.name not in values]
    if lacking:
        raise ConfigError(f"workload {name} needs {lacking[0]}", f"add {lacking[0]}=...")
    return Workload(name, checked(kind(**values)), classes.get(CLASS, ""))


def keys_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Keys of a config with their defaults as one would write them; `content` by its own keys."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        if field.name == "content":
            found |= keys_of(Content)
        else:
            found[field.name] = "..." if field.required else _written(field.default)
    return found


def describe() -> str:
    """All names with what they are, and their keys and defaults: for --help."""
    lines = []
    for name, preset in PRESETS.items():
        about = (preset.config.__doc__ or "").splitlines()[0]
        keys = ", ".join(f"{key}={value}" for key, value in keys_of(preset.config).items())
        lines += [f"{name}: {about}", f"    {keys}"]
    lines += [
        "Lengths in tokens: 512 (fixed), 100-900 (uniform), 512~1.5 (lognormal: mean~CV);",
        "in words with text=true, about 1.3 tokens each. Lists: 256+128. Times in seconds.",
        "class=NAME, on any of them: a class for objectives such as NAME/ttft:p95<1s.",
        "Several at once: chat:class=chat,count=8; rag:class=batch,count=4.",
    ]
    return "\n".join(lines)


def _pairs(name: str, rest: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, map(str.strip, rest.split(","))):
        key, sign, text = part.partition("=")
        if not sign:
            raise ConfigError(f"{name}: {part[:40]!r} is not key=value", "write key=value,...")
        yield key.strip().replace("-", "_"), text.strip()


def _convert(place: str, text: str, kind: Any) -> Any:
    """A value of the field's type, bounds checked. Raises ConfigError naming the place."""
    try:
        if kind is Length:
            return parse_length(text)
        lists = getattr(kind, "__origin__", None) is tuple
        value: Any = text.split("+") if lists else text.lower() if kind is bool else text
        return msgspec.convert(value, kind, strict=False)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error.message}", error.hint) from None
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise ConfigError(f"{place}={text[:40]}: {error}", "see --help for its default") from None


def _written(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return "+".join(map(_written, value))
        case float():
            return f"{value:g}"
    return str(value)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    listed = f"known: {', '.join(known)}"
    return f"did you mean {near[0]}? {listed}" if near else listed
