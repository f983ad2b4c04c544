"""The closed loop on an engine that is started here: look, name the cause, try the remedy, keep it.

Not here: the verdict (validate.py), the arguments (cli).
"""

import hashlib
from collections.abc import Callable, Mapping

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.advisor.advice import Advice, of_record
from sixfold.instrument.advisor.remedies import Step
from sixfold.instrument.advisor.scoreboard import Entry, entry_of
from sixfold.instrument.advisor.signals import Readings
from sixfold.instrument.advisor.validate import RULES, Runs, Trial, prove
from sixfold.instrument.advisor.window import Setting
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.measure import Job
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner.runner import PlannedRun
from sixfold.instrument.tuner.verdict import CallRules


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is examined: an engine to start, under a workload with an objective."""

    spec: EngineSpec
    job: Job
    workload: str
    """As the user wrote it."""
    rules: CallRules = RULES
    speaks: str = ""
    """Whose flags the server takes, where a command of the user's starts it; empty: the spec's."""

    @property
    def name(self) -> str:
        """Of its runs in the store: equal subjects go on where they stopped."""
        what = msgspec.json.encode((self.spec, self.job), order="deterministic")
        return f"advise-{hashlib.blake2b(what).hexdigest()[:8]}"


class Loop:
    """Runs of one subject, kept in the store as they are made."""

    def __init__(self, subject: Subject, runner: Runs, store: Store) -> None:
        if subject.job.slo is None:
            raise ConfigError("advice needs an objective", 'give --slo "ttft:p95<1s;itl:p95<100ms"')
        self.subject = subject
        self._runner = runner
        self._store = store
        self._kept = {point.id: point for _, point in store.points(subject.name)}

    def run(self, trial: PlannedRun, job: Job) -> Point:
        """One run, taken from the store where it has been made before."""
        kept = self._kept.get(trial.id(job))
        if kept is not None:
            return kept
        point = self._runner.run(trial, job)
        self._store.append([point])
        self._kept[point.id] = point
        return point

    def examine(self, extra: Mapping[str, Setting], told: Readings | None = None) -> Advice:
        """Run the workload once on the engine as it is; the advice. Raises ConfigError if it fails.

        `extra`: settings that the user says beside the flags.
        """
        subject = self.subject
        point = self.run(PlannedRun(study=subject.name, spec=subject.spec), subject.job)
        if point.status != "ok":
            raise ConfigError(f"the engine as it is can't be measured: {point.reason}", "see above")
        assert subject.job.slo is not None
        if subject.speaks:
            # The user's command may set what is not among the flags: defaults are not known.
            point = msgspec.structs.replace(point, engine=subject.speaks, command="")
        return of_record(point, subject.job.slo, extra, told)

    def try_step(self, step: Step, tell: Callable[[str, Point], None]) -> Entry:
        """Pairs before and after one step; its line of the scoreboard."""
        subject = self.subject
        trial = Trial(
            name=subject.name, spec=subject.spec, step=step, job=subject.job, rules=subject.rules
        )
        verdict, points = prove(trial, self, tell, self._kept)
        return entry_of(step, verdict, points, subject.workload, str(subject.job.slo))


def to_try(advice: Advice, most: int) -> tuple[Step, ...]:
    """The steps that flags can try, best first."""
    able = [step for step in advice.steps if step.changes and not step.do_not]
    return tuple(able[:most])
