"""llm-optimizer's client arguments: `max_concurrency=[4,8];num_prompts=64` -> loads and workloads.

Only those that say how much of random lengths is sent when. Not here: the grid language itself
(backends/grid.py).
"""

from collections.abc import Mapping

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.instrument.backends.grid import parse_grid
from sixfold.instrument.backends.spec import Scalar
from sixfold.instrument.loadgen.arrivals import Arrivals, gamma
from sixfold.instrument.workloads.presets import Workload, parse_workload

LENGTHS = {"num_prompts": "count", "random_input_len": "input", "random_output_len": "output"}
"""Their names, and the keys of the random workload."""
LOADS = ("max_concurrency", "request_rate")
ONLY = {"dataset_name": "random"}
"""What else may be said, as long as it is this."""


class Offered(msgspec.Struct, frozen=True):
    """One load and what is sent; None: the command line's own."""

    load: Arrivals | int | None
    workload: Workload | None


def parse_client_args(text: str, seed: int) -> list[Offered]:
    """One for each point of the grid, in its order. Raises ConfigError for other arguments."""
    return [_offered(row, seed) for row in parse_grid(text)]


def _offered(given: Mapping[str, Scalar], seed: int) -> Offered:
    row = {name.replace("-", "_"): value for name, value in given.items()}
    for name, value in row.items():
        if name not in (*LENGTHS, *LOADS) and ONLY.get(name) != value:
            known = ", ".join((*LOADS, *LENGTHS))
            raise ConfigError(
                f"client argument {name}={value} is not read here", f"known: {known}; or --workload"
            )
    if all(name in row for name in LOADS):
        raise ConfigError("a load is max_concurrency or request_rate", "give one of them")
    lengths = [f"{key}={row[name]}" for name, key in LENGTHS.items() if name in row]
    made = lengths or "dataset_name" in row
    return Offered(
        _load(row, seed), parse_workload(f"random:{','.join(lengths)}") if made else None
    )


def _load(row: Mapping[str, Scalar], seed: int) -> Arrivals | int | None:
    sessions, rate = row.get("max_concurrency"), row.get("request_rate")
    if sessions is not None:
        if isinstance(sessions, bool) or not isinstance(sessions, int) or sessions < 1:
            raise ConfigError(f"max_concurrency is {sessions}", "give a whole number from 1")
        return sessions
    if rate is None:
        return None
    if isinstance(rate, bool | str):
        raise ConfigError(f"request_rate is {rate}", "give requests per second")
    return gamma(float(rate), 1.0, seed)
