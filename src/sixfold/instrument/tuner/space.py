"""Spaces of configurations: parameters, conditions, coupled ones, and vectors for a surrogate.

Not here: which configuration to run next (search.py), or what the names mean to an engine.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sixfold.core.errors import ConfigError

Scalar = bool | int | float | str
Config = Mapping[str, Scalar]
Rows = tuple[tuple[Scalar, ...], ...]

MAX_CONFIGURATIONS = 100_000
"""A space beyond this is a mistake."""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds where the parameter `name`, itself active, has one of `values`."""

    name: str
    values: tuple[Scalar, ...]

    def holds(self, config: Config) -> bool:
        """Whether this configuration fulfils it."""
        return self.name in config and has(self.values, config[self.name])


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One setting and the values it may take; where a condition fails it is absent."""

    name: str
    values: tuple[Scalar, ...]
    ordered: bool = False
    """Neighbouring values behave alike: they stand in the order to be kept."""
    lossy: tuple[Scalar, ...] = ()
    """Values that change what the model answers, such as a quantised cache."""
    only_if: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        _check_values(self.name, self.values)
        if not all(has(self.values, value) for value in self.lossy):
            raise ConfigError(f"{self.name}: a lossy value is not among its values", "add it")

    @property
    def names(self) -> tuple[str, ...]:
        """Its only name."""
        return (self.name,)

    @property
    def rows(self) -> Rows:
        """Its values, each as a row of one."""
        return tuple((value,) for value in self.values)


class Coupled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that change together: one row of values at a time, as tp*dp=[(1,4),(2,2)]."""

    names: tuple[str, ...]
    rows: Rows
    only_if: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        label = "*".join(self.names)
        _check_values(label, self.rows)
        if any(len(row) != len(self.names) for row in self.rows):
            raise ConfigError(f"{label}: a row has not {len(self.names)} values", "complete it")


class Space(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Parameters, multiplied; a condition may only look at parameters before its own."""

    parameters: tuple[Parameter | Coupled, ...]
    listed: tuple[dict[str, Scalar], ...] | None = None
    """The valid configurations, where they are not the product; see `space_of`."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for parameter in self.parameters:
            for condition in parameter.only_if:
                if condition.name not in seen:
                    hint = "a condition names a parameter that stands before its own"
                    raise ConfigError(f"a condition on {condition.name!r}, not known there", hint)
            for name in parameter.names:
                if name in seen:
                    raise ConfigError(f"parameter {name!r} is there twice", "rename or join them")
                seen.add(name)

    def configurations(self) -> list[dict[str, Scalar]]:
        """All that are valid, the last parameter changing fastest.

        Raises ConfigError beyond MAX_CONFIGURATIONS.
        """
        if self.listed is not None:
            return [dict(config) for config in self.listed]
        found: list[dict[str, Scalar]] = [{}]
        for parameter in self.parameters:
            found = [longer for config in found for longer in _extended(config, parameter)]
            if len(found) > MAX_CONFIGURATIONS:
                hint = "split or thin the space"
                raise ConfigError(f"over {MAX_CONFIGURATIONS} configurations", hint)
        return found

    def check(self, config: Config) -> None:
        """Raise ConfigError for a configuration that is not of this space."""
        known = {name for parameter in self.parameters for name in parameter.names}
        for name in config:
            if name not in known:
                hint = f"known: {', '.join(sorted(known))}"
                raise ConfigError(f"{name!r} is no parameter of the space", hint)
        for parameter in self.parameters:
            _check_row(parameter, config, self.listed is not None)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Which parameter, by position, each number of a vector belongs to."""
        return tuple(
            position
            for position, parameter in enumerate(self.parameters)
            for _ in range(len(_vector(parameter, _row(parameter, {}))))
        )

    def encode(self, config: Config) -> NDArray[np.float64]:
        """The configuration as numbers: ordered values in 0..1, on a log scale where positive.

        Categories are one-hot, two of them 1 apart; a parameter that is absent has its own flag.
        """
        self.check(config)
        parts = [_vector(parameter, _row(parameter, config)) for parameter in self.parameters]
        return np.array([number for part in parts for number in part])

    def lossy(self, config: Config) -> tuple[str, ...]:
        """Names of the parameters whose values here change the model's answers."""
        plain = [p for p in self.parameters if isinstance(p, Parameter) and p.name in config]
        return tuple(p.name for p in plain if has(p.lossy, config[p.name]))


def space_of(configurations: Sequence[Config]) -> Space:
    """The space of given configurations, such as the grid language's; numbers become ordered.

    Valid are exactly those given, each once.
    """
    if not configurations:
        raise ConfigError("a space of no configurations", "give the grid at least one")
    names = dict.fromkeys(name for config in configurations for name in config)
    parameters = tuple(_inferred(name, configurations) for name in names)
    once = {tuple((n, _identity(v)) for n, v in c.items()): dict(c) for c in configurations}
    return Space(parameters, tuple(once.values()))


def has(values: Iterable[Scalar], value: Scalar) -> bool:
    """Whether the value is among them; true is not 1 here."""
    return any(_identity(value) == _identity(each) for each in values)


def _inferred(name: str, configurations: Sequence[Config]) -> Parameter:
    given = [config[name] for config in configurations if name in config]
    values = list({_identity(value): value for value in given}.values())
    numeric = all(_is_number(value) for value in values)
    if numeric:
        values.sort(key=float)
    return Parameter(name, tuple(values), numeric and len(values) > 1)


def _identity(value: Any) -> tuple[bool, Any]:
    return (isinstance(value, bool), value)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: tuple[Scalar, ...], other: tuple[Scalar, ...]) -> bool:
    return [*map(_identity, one)] == [*map(_identity, other)]


def _place(rows: Rows, row: tuple[Scalar, ...]) -> int:
    return next((i for i, each in enumerate(rows) if _same(each, row)), -1)


def _check_values(label: str, values: Sequence[Any]) -> None:
    if not label or not values:
        raise ConfigError(f"parameter {label!r} has no name or no values", "give it both")
    flat = [v if isinstance(v, tuple) else (v,) for v in values]
    if any(_place(tuple(flat[:i]), row) >= 0 for i, row in enumerate(flat)):
        raise ConfigError(f"{label}: a value is there twice", "leave each value once")
    numbers = [n for row in flat for n in row if isinstance(n, float)]
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{label}: a value is no finite number", "leave it out")


def _active(parameter: Parameter | Coupled, config: Config) -> bool:
    return all(condition.holds(config) for condition in parameter.only_if)


def _extended(
    config: dict[str, Scalar], parameter: Parameter | Coupled
) -> Iterable[dict[str, Scalar]]:
    if not _active(parameter, config):
        return [config]
    return [config | dict(zip(parameter.names, row, strict=True)) for row in parameter.rows]


def _row(parameter: Parameter | Coupled, config: Config) -> tuple[Scalar, ...] | None:
    if not all(name in config for name in parameter.names):
        return None
    return tuple(config[name] for name in parameter.names)


def _check_row(parameter: Parameter | Coupled, config: Config, listed: bool) -> None:
    row, label = _row(parameter, config), "*".join(parameter.names)
    if row is None:
        if not listed and _active(parameter, config):
            raise ConfigError(f"{label} is missing in a configuration", "give it a value")
    elif not _active(parameter, config):
        raise ConfigError(f"{label} is set where its condition fails", "leave it out there")
    elif _place(parameter.rows, row) < 0:
        known = ", ".join(str(r[0] if len(r) == 1 else r) for r in parameter.rows)
        raise ConfigError(f"{row} is no value of {label}", f"choose one of: {known}")


def _vector(parameter: Parameter | Coupled, row: tuple[Scalar, ...] | None) -> list[float]:
    """Numbers for one parameter; the first is 1 where it is absent."""
    numbers = [0.0 if row is not None else 1.0]
    for column in range(len(parameter.names)):
        values = list({_identity(each[column]): each[column] for each in parameter.rows}.values())
        value = None if row is None else row[column]
        if _is_scale(parameter, values):
            numbers.append(_on_scale(values, value))
        else:
            numbers += [_hot(each, value) for each in values]
    return numbers


def _is_scale(parameter: Parameter | Coupled, values: list[Scalar]) -> bool:
    if isinstance(parameter, Parameter):
        return parameter.ordered
    return all(map(_is_number, values))


def _on_scale(values: list[Scalar], value: Scalar | None) -> float:
    if value is None or len(values) == 1:
        return 0.5
    places = [float(i) for i in range(len(values))]
    at = _place(tuple((v,) for v in values), (value,))
    positive = [float(v) for v in values if _is_number(v) and float(v) > 0]
    if len(positive) == len(values):
        places = [math.log(number) for number in positive]
    return (places[at] - min(places)) / (max(places) - min(places))


def _hot(each: Scalar, value: Scalar | None) -> float:
    return math.sqrt(0.5) if value is not None and _identity(each) == _identity(value) else 0.0
