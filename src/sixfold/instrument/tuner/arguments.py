"""`sixfold tune`'s arguments as plans: engines with their spaces, and jobs; checked beforehand.

Nothing is started here. Not here: the arguments themselves (cli), running what they ask for.
"""

import argparse
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.slo import parse_slo
from sixfold.instrument.backends import backend
from sixfold.instrument.backends.flags import check_flags
from sixfold.instrument.backends.grid import parse_grid
from sixfold.instrument.backends.spec import EngineSpec, Scalar, tested_words
from sixfold.instrument.loadgen.arrivals import Arrivals, arrival_times
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Session
from sixfold.instrument.loadgen.run import Limits
from sixfold.instrument.measure import Job, check, describe_load
from sixfold.instrument.tables import fingerprint_words
from sixfold.instrument.tuner.capacity import check_capacity
from sixfold.instrument.tuner.client_args import Offered, parse_client_args
from sixfold.instrument.tuner.objective import read_objective
from sixfold.instrument.tuner.space import Coupled, Parameter, Space
from sixfold.instrument.tuner.spaces import (
    check_consent,
    default_space,
    given_space,
    plain_name,
    precision_flags,
)
from sixfold.instrument.tuner.tune import Study
from sixfold.instrument.workloads.fingerprint import fingerprint
from sixfold.instrument.workloads.presets import parse_workload


class Plan(NamedTuple):
    """One engine, and what is tried on it."""

    spec: EngineSpec
    space: Space

    @property
    def tries_lossy(self) -> bool:
        """Whether a setting that may change what the model says is among those tried."""
        names = {name for parameter in self.space.parameters for name in parameter.names}
        return not names.isdisjoint(precision_flags(self.spec.engine))

    @property
    def line(self) -> str:
        """What is tried, in words."""
        words = tested_words(backend(self.spec.engine))
        name = f"{self.spec.engine} ({words})" if words else self.spec.engine
        if not self.space.parameters:
            return f"{name}: as it is"
        values = "; ".join(map(_written, self.space.parameters))
        return f"{name}: {len(self.space.configurations())} configurations of {values}"


def _written(parameter: Parameter | Coupled) -> str:
    rows = [row[0] if len(row) == 1 else row for row in parameter.rows]
    where = [f"{one.name}={'|'.join(map(str, one.values))}" for one in parameter.only_if]
    return f"{'*'.join(parameter.names)}={rows}" + (f" where {', '.join(where)}" if where else "")


def plans_of(a: argparse.Namespace) -> list[Plan]:
    """An engine each. Raises ConfigError for what can't be read, or lacks consent."""
    plans = []
    for spec in _specs(a):
        space = given_space(a.space) if a.space else default_space(spec.engine, a.allow_lossy)
        if a.space and not a.allow_lossy:
            check_consent(spec, space)
        plans.append(Plan(spec, space))
    return plans


def check_engines(plans: list[Plan]) -> None:
    """All engines are there, and know all flags. Raises ConfigError: then nothing was started."""
    for spec, space in plans:
        whole = spec.flags | space.configurations()[0]
        # With a port, as when it is started; the command itself is not needed.
        backend(spec.engine).argv(_placed(spec, whole))
        check_flags(spec)
        for parameter in space.parameters:
            for row in parameter.rows:
                check_flags(_placed(spec, dict(zip(parameter.names, row, strict=True))))


def _placed(spec: EngineSpec, flags: dict[str, Scalar]) -> EngineSpec:
    return msgspec.structs.replace(spec, port=8000, flags=flags)


def jobs_of(a: argparse.Namespace, load: Callable[[], Arrivals | int], workload: str) -> list[Job]:
    """One for each load; `load` and `workload` where the client arguments name none.

    Raises ConfigError for what could never be judged, or not be sent.
    """
    jobs = []
    for offered in _offered(a):
        job = Job(
            target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
            workload=offered.workload or parse_workload(a.workload or workload),
            load=load() if offered.load is None else offered.load,
            seed=a.seed,
            slo=parse_slo(a.slo) if a.slo else None,
            limits=Limits(seconds=a.seconds, stop_saturated=a.stop_when_saturated),
            price_per_hour=a.price_per_hour,
        )
        check(job)
        if a.find_load:
            check_capacity(job)
        jobs.append(job)
    return jobs


def _offered(a: argparse.Namespace) -> list[Offered]:
    """Loads and workloads of the client arguments; one of neither without them."""
    found = parse_client_args(a.client_args or "", a.seed)
    loads = any(one.load is not None for one in found)
    if loads and (a.concurrency or a.rate or a.arrivals in ("trace", "ramp")):
        raise ConfigError("two loads are given", "give it in --client-args or as an option")
    if a.workload and any(one.workload is not None for one in found):
        raise ConfigError("two workloads are given", "give it in --client-args or as --workload")
    return found


def objective_of(a: argparse.Namespace, job: Job) -> str:
    """The key of the metric that is made best. Raises ConfigError for what is not measured."""
    objective = read_objective(a.objective, job.slo, job.price_per_hour is not None)
    group = objective.rpartition("/")[0]
    known = sorted({session.slo_class for session in job.workload.build(job.seed)} - {""})
    if group and group not in known:
        hint = f"its classes: {', '.join(known)}" if known else f"write {objective.split('/')[-1]}"
        raise ConfigError(f"the workload has no class {group!r}", hint)
    return objective


def studies_of(a: argparse.Namespace, plans: list[Plan], job: Job, share: float) -> list[Study]:
    """One for each engine, of `share` seconds; named by all that makes it, unless by the user."""
    objective = objective_of(a, job)
    studies = []
    for spec, _space in plans:
        what = (spec, job, objective, a.space, a.allow_lossy, a.search)
        plain = msgspec.json.encode(what, order="deterministic")
        name = f"tune-{spec.engine}-{hashlib.blake2b(plain).hexdigest()[:8]}"
        study = Study(
            name=a.study or name,
            spec=spec,
            job=job,
            objective=objective,
            seconds=share,
            find_load=a.find_load,
        )
        studies.append(study)
    return studies


def workload_line(job: Job) -> str:
    """What is sent and how, in a line; each run has other prompts of this kind."""
    sessions = job.workload.build(job.seed)
    shape = msgspec.to_builtins(fingerprint(sessions, _times(job.load, sessions)))
    load = ", ".join(f"{name} {value}" for name, value in describe_load(job.load).items())
    return f"workload {job.workload.name}, {load}: {fingerprint_words(shape)}"


def _times(load: Arrivals | int, sessions: list[Session]) -> list[float]:
    if isinstance(load, int):
        return []
    if load.kind == "trace":
        return sorted((session.at or 0.0) / load.speedup for session in sessions)
    return arrival_times(load, len(sessions))


def _specs(a: argparse.Namespace) -> list[EngineSpec]:
    names = a.engine.split(",")
    models, paths = _pairs(a.model_for, "=", names), _pairs(a.executable, "=", names)
    flags = {name: _flags(text) for name, text in _pairs(a.flags, ":", names).items()}
    env, ready = _environments(a.env, names), _ready_paths(a.ready_path, names)
    if (a.start_command or a.stop_command) and "command" not in names:
        raise ConfigError("a start command is run by the engine `command`", "--engine command")
    specs = []
    for name in names:
        backend(name)
        spec = EngineSpec(
            engine=name,
            model=models.get(name, a.model),
            executable=paths.get(name, ""),
            flags=flags.get(name, {}),
            env=env.get(name, {}),
            start_command=a.start_command if name == "command" else "",
            stop_command=a.stop_command if name == "command" else "",
            ready_path=ready.get(name, ""),
        )
        specs.append(spec)
    return specs


def _flags(text: str) -> dict[str, Scalar]:
    rows = parse_grid(text)
    if len(rows) > 1:
        raise ConfigError(f"fixed flags have one value each: {text!r}", "give others by --space")
    return {plain_name(name): value for name, value in rows[0].items()}


def _environments(texts: list[str], names: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        ((name, setting),) = _pairs([text], ":", names).items()
        variable, given, value = setting.partition("=")
        if not given or not variable:
            raise ConfigError(f"{text!r} sets no variable", "write ENGINE:NAME=VALUE")
        found.setdefault(name, {})[variable] = value
    return found


def _ready_paths(texts: list[str], names: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        if text.startswith("/"):
            found |= dict.fromkeys(names, text)
        else:
            found |= _pairs([text], "=", names)
    return found


def _pairs(texts: list[str], sign: str, names: list[str]) -> dict[str, str]:
    """ENGINE and what is said of it."""
    found = {}
    for text in texts:
        name, given, value = text.partition(sign)
        if not given or not value:
            raise ConfigError(f"{text!r} is not ENGINE{sign}VALUE", f"write sixfold{sign}...")
        if name not in names:
            raise ConfigError(f"{text!r} is of no engine that is tuned", f"add it: --engine {name}")
        found[name] = value
    return found
