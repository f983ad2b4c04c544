"""Workloads by name for the command line: `chat:turns=4,system=300`, `trace:file=x.jsonl,speed=2`.

Values can't hold a comma. Not here: the workloads themselves (synthetic, files, traces).
"""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.loadgen.plan import Session
from sixfold.instrument.workloads import files, synthetic, traces
from sixfold.instrument.workloads.content import Content, Length, checked, parse_length


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


class Workload(msgspec.Struct, frozen=True):
    """A named workload with its config."""

    name: str
    config: msgspec.Struct

    def build(self, seed: int) -> list[Session]:
        """Its sessions. Raises ConfigError for a missing or damaged file."""
        return PRESETS[self.name].builder(self.config, seed)


def parse_workload(spec: str) -> Workload:
    """`name` or `name:key=value,key=value`.

    Raises ConfigError, with the nearest name in its hint, for unknown names and keys, for values
    of the wrong type or out of bounds, and for keys that lack.
    """
    name, _, rest = spec.partition(":")
    name = name.strip()
    if name not in PRESETS:
        raise ConfigError(f"unknown workload {name[:40]!r}", _nearest(name, PRESETS))
    kind = PRESETS[name].config
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    inner = {field.name: field for field in msgspec.structs.fields(Content)}
    values: dict[str, Any] = {}
    contents: dict[str, Any] = {}
    for key, text in _pairs(name, rest):
        if key in fields and key != "content":
            target, field = values, fields[key]
        elif key in inner and "content" in fields:
            target, field = contents, inner[key]
        else:
            hint = _nearest(key, keys_of(kind))
            raise ConfigError(f"workload {name} has no key {key[:40]!r}", hint)
        if key in target:
            raise ConfigError(f"{name}: {key} is given twice", "give it once")
        target[key] = _convert(f"{name}: {key}", text, field.type)
    if contents:
        values["content"] = Content(**contents)
    lacking = [f.name for f in fields.values() if f.required and f.name not in values]
    if lacking:
        raise ConfigError(f"workload {name} needs {lacking[0]}", f"add {lacking[0]}=...")
    return Workload(name, checked(kind(**values)))


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
