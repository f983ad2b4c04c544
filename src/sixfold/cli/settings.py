"""Settings of config structs from flags, environment and a TOML file, in this order.

Every field of a struct is a flag (`--max-num-seqs`), an environment variable
(SIXFOLD_MAX_NUM_SEQS) and a TOML key (max_num_seqs or max-num-seqs). Help texts are the fields'
own docstrings. Not here: what the settings mean, and ranges (the structs check them).
"""

import argparse
import ast
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from sixfold.core.errors import ConfigError

FLAG_NAMES = {"api_keys": "api-key"}
"""Fields whose flag is not their own name."""

POSITIONAL = ("model",)


def structs() -> tuple[type[msgspec.Struct], ...]:
    """The structs whose fields are settings, in the order of --help."""
    from sixfold.core.config import EngineConfig
    from sixfold.serving.server.config import ServerConfig

    return (EngineConfig, ServerConfig)


def flag_names() -> set[str]:
    """All flags of `sixfold serve` that set a field."""
    names = set()
    for struct in structs():
        for field in msgspec.structs.fields(struct):
            if field.name not in POSITIONAL:
                names.add(f"--{flag_of(field.name)}")
                if field.type is bool:
                    names.add(f"--no-{flag_of(field.name)}")
    return names


def flag_of(field: str) -> str:
    """The flag's name without its dashes."""
    return FLAG_NAMES.get(field, field.replace("_", "-"))


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return "SIXFOLD_" + flag_of(field).replace("-", "_").upper()


@cache
def field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring under each field, from the struct's source."""
    import sys

    source = Path(str(sys.modules[struct.__module__].__file__)).read_text(encoding="utf-8")
    node = next(
        n
        for n in ast.parse(source).body
        if isinstance(n, ast.ClassDef) and n.name == struct.__name__
    )
    docs: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name) and isinstance(below.value, ast.Constant)
            docs[field.target.id] = " ".join(str(below.value.value).split())
    return docs


def add_flags(
    parser: argparse.ArgumentParser,
    struct: type[msgspec.Struct],
    title: str,
    leave_out: Collection[str] = (),
) -> None:
    """A flag for each field but those to leave out. Not given, it is not in the namespace."""
    group = parser.add_argument_group(title)
    docs, hints = field_docs(struct), get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        if field.name in POSITIONAL or field.name in leave_out:
            continue
        kind, flag = _required(hints[field.name]), f"--{flag_of(field.name)}"
        options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
        text = docs[field.name].replace("%", "%%")
        options["help"] = f"{text} (default: {_shown(field.default)})"
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif get_origin(kind) is tuple:
            options.update(action="append", metavar="TEXT")
        else:
            options.update(type=_number_or_text(kind), metavar=kind.__name__.upper())
        group.add_argument(flag, **options)


def _required(kind: Any) -> Any:
    """The type of what is given where None means that nothing is."""
    kinds = [one for one in get_args(kind) if one is not type(None)]
    return kinds[0] if type(None) in get_args(kind) else kind


def _shown(default: Any) -> str:
    if default in ("", (), None):
        return "none"
    return "yes" if default is True else "no" if default is False else str(default)


def _number_or_text(kind: type) -> Any:
    def convert(text: str) -> Any:
        return kind(text)

    convert.__name__ = {int: "whole number", float: "number"}.get(kind, "text")
    return convert


def read_toml(path: str, wanted: Sequence[type[msgspec.Struct]] = ()) -> dict[str, Any]:
    """The file's keys as names of fields, those of `wanted` first where two are called the same.

    Raises ConfigError for a key that no verb knows, or a bad file.
    """
    try:
        with open(path, "rb") as f:
            table = tomllib.load(f)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", "mend that line") from error
    fields = _all_fields((*structs(), *wanted))
    values = {}
    for key, value in table.items():
        name = fields.get(key.replace("-", "_"))
        if name is None:
            near = get_close_matches(key.replace("-", "_"), fields, n=1)
            hint = f"did you mean {near[0]}?" if near else "see: sixfold serve --help"
            raise ConfigError(f"{path} has an unknown key {key!r}", hint)
        values[name] = value
    return values


def _all_fields(known: Sequence[type[msgspec.Struct]]) -> dict[str, str]:
    """Keys by which a field may be named -> field; the last struct's goes first."""
    names: dict[str, str] = {}
    for struct in known:
        for field in msgspec.structs.fields(struct):
            names[field.name] = names[flag_of(field.name).replace("-", "_")] = field.name
    return names


def build(
    struct: type[msgspec.Struct],
    flags: Mapping[str, Any],
    toml: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
) -> Any:
    """The struct from flags, else environment, else TOML, else its defaults."""
    values: dict[str, Any] = {}
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        variable = variable_of(field.name)
        if field.name in flags:
            values[field.name] = flags[field.name]
        elif environment.get(variable):
            kind = _required(hints[field.name])
            values[field.name] = _from_text(environment[variable], kind, variable)
        elif field.name in toml:
            values[field.name] = _from_toml(toml[field.name], hints[field.name])
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(f"bad setting: {error}", "see: sixfold serve --help") from error


def _from_text(text: str, kind: Any, variable: str) -> Any:
    if kind is bool:
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in known:
            raise ConfigError(f"{variable} is {text!r}", "use 1 or 0")
        return known[text.lower()]
    if get_origin(kind) is tuple:
        assert get_args(kind)
        return [part for part in text.split(",") if part]
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(f"{variable} is {text!r}", f"it takes {kind.__name__}") from error


def _from_toml(value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple and isinstance(value, str):
        return [value]
    return float(value) if kind is float and type(value) is int else value
