"""Runs trials: one server at a time, many client points on it, every outcome a point.

A server is kept while the next trial wants the same configuration; its prefix cache is reset
between points, and where that can't be done it is restarted. A server that does not start is a
point, too. Not here: which trial comes next (search.py), judging (verdict.py), asking lossy
settings for their quality (ask.py).
"""

import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import msgspec

from sixfold import __version__
from sixfold.core.errors import ConfigError
from sixfold.core.point import Point
from sixfold.instrument.backends import backend
from sixfold.instrument.backends.base import (
    Running,
    StartFailure,
    ask_version,
    reset_cache,
    start,
    stop,
    version_words,
)
from sixfold.instrument.backends.spec import EngineSpec, Scalar, shown_command
from sixfold.instrument.discover import first_model
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.run import Progress
from sixfold.instrument.measure import Job, Subject, failed_point, hardware, measure, warm_up
from sixfold.instrument.tuner.ask import QualityCheck
from sixfold.strategies import CARDS

START_SECONDS = 600.0


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run to make. Equal trials have equal ids, so that a resumed study knows what it has."""

    study: str
    spec: EngineSpec
    repeat: int = 0

    def id(self, job: Job) -> str:
        """32 hex digits of all that makes the run what it is, as far as it is known before.

        That is the machine, and the version of our own engine; others tell theirs when they run.
        """
        spec = msgspec.structs.replace(self.spec, port=0)
        flags = dict(sorted(spec.flags.items()))
        ours = spec.engine == "sixfold" and not spec.executable
        runs_on = (hardware(), __version__ if ours else "")
        what = (self.study, msgspec.structs.replace(spec, flags=flags), self.repeat, runs_on)
        asked = (job.workload, job.load, job.seed, str(job.slo or ""), job.target.chat)
        plain = msgspec.json.encode((what, asked), order="deterministic")
        return hashlib.blake2b(plain, digest_size=16).hexdigest()


class Runner:
    """Runs trials on servers that it starts. Use it as a context manager: the last one is ended."""

    def __init__(
        self,
        log_dir: Path,
        say: Callable[[str], None],
        show: Callable[[Progress], None] | None,
        check: QualityCheck | None = None,
    ) -> None:
        """Servers log to `log_dir`. With a `check`, lossy configurations are held against it."""
        self._log_dir = log_dir
        self._say = say
        self._show = show
        self._check = check
        self._running: Running | None = None
        self._spec: EngineSpec | None = None
        self._fresh = False
        self._version = ""
        self.starts = 0
        """Servers started."""

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server that still runs."""
        running, self._running, self._spec = self._running, None, None
        if running is not None:
            stop(running)

    def run(self, trial: PlannedRun, job: Job) -> Point:
        """Run one trial; `job` without its target's URL and model. Failures are points.

        Raises KeyboardInterrupt if the run is interrupted.
        """
        subject = self._subject(trial)
        self._hear_baseline(trial.spec)
        try:
            running = self._server(trial.spec)
        except StartFailure as failure:
            reason = f"{failure.reason} ({failure.hint})" if failure.hint else failure.reason
            point = failed_point(job, subject, failure.status, reason)
            return msgspec.structs.replace(point, id=trial.id(job))
        known = msgspec.structs.replace(subject, engine_version=self._version)
        try:
            placed = self._placed(job, running.url)
            self._prepare(placed)
        except ConfigError as error:
            # It runs, and serves nothing of this workload: such as a context that is too short.
            self.close()
            return msgspec.structs.replace(
                failed_point(job, known, "failed", error.message), id=trial.id(job)
            )
        point, result = measure(placed, known, self._show)
        if result.stopped == "interrupted":
            raise KeyboardInterrupt  # half a run is no point: it would be taken for a whole one
        self._end_if_dead()
        return msgspec.structs.replace(
            point,
            id=trial.id(job),
            telemetry=point.telemetry | self._quality(trial.spec, placed.target, point),
        )

    @staticmethod
    def _placed(job: Job, url: str) -> Job:
        """The job with the server's URL and the name of its model. Raises ConfigError."""
        target = msgspec.structs.replace(job.target, url=url)
        model = target.model or first_model(target)
        return msgspec.structs.replace(job, target=msgspec.structs.replace(target, model=model))

    def _hear_baseline(self, spec: EngineSpec) -> None:
        """A lossy configuration comes, and the baseline ran before this process: start it again."""
        if self._check is None or not self._check.needs_baseline(spec):
            return
        try:
            url = self._server(self._check.baseline).url
            self._check.hear_baseline(url, first_model(Target(url=url)))
        except (StartFailure, ConfigError) as error:
            self._check.no_baseline(f"the baseline: {error}")

    def _quality(self, spec: EngineSpec, target: Target, point: Point) -> dict[str, Any]:
        """What is said beside the point: how far its settings say what the baseline says."""
        if self._check is None or point.status != "ok":
            return {}
        if spec == self._check.baseline:
            self._check.hear_baseline(target.url, target.model)
        return self._check.look(spec, target.url, target.model)

    def _server(self, spec: EngineSpec) -> Running:
        if self._running is not None and self._spec == spec and reset_cache(self._running):
            return self._running
        self.close()
        self._say(f"starting {_name(spec)}")
        self._running = start(spec, log_dir=self._log_dir, timeout=START_SECONDS)
        self._spec, self._fresh = spec, True
        self.starts += 1
        self._version = ask_version(self._running)
        if words := version_words(backend(spec.engine), self._version):
            self._say(words)
        return self._running

    def _prepare(self, job: Job) -> None:
        """A new server is warmed up, then forgets the warm-up's prompts if it can."""
        if self._fresh:
            with interruptible():
                warm_up(job)
            self._fresh = False
            if self._running is not None:
                reset_cache(self._running)

    def _end_if_dead(self) -> None:
        """A server that died under the load is started anew for the next point."""
        running = self._running
        if running is not None and running.guard is not None and running.guard.poll() is not None:
            self.close()

    def _subject(self, trial: PlannedRun) -> Subject:
        spec = trial.spec
        return Subject(
            engine=spec.engine,
            model=spec.model,
            config=dict(spec.flags),
            command=shown_command(backend(spec.engine), msgspec.structs.replace(spec, port=8000)),
            strategies=strategies_on(spec.engine, spec.flags),
            study=trial.study,
            repeat=trial.repeat,
        )


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C within ends it at once: asyncio, left alone, makes of it a run that was cut short.

    Else a stop would be taken for a server that answers nothing.
    """
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if ours else None
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def strategies_on(engine: str, flags: dict[str, Scalar]) -> tuple[str, ...]:
    """Names of the cards that are on in an engine with these flags."""
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    return tuple(
        card.name
        for card in CARDS
        if (knob := card.knobs.get(engine)) is not None
        and not _says(given, knob.off)
        and (knob.on_by_default or _says(given, knob.on))
    )


def _says(given: dict[str, Scalar], switch: str | None) -> bool:
    """Whether flags say what a card's switch says: "--batching static", "--no-cache-prompt"."""
    if not switch:
        return False
    name, _, value = switch.removeprefix("--").partition(" ")
    if value:
        return name in given and str(given[name]) == value
    if name.startswith("no-") and given.get(name.removeprefix("no-")) is False:
        return True
    return given.get(name) is True


def _name(spec: EngineSpec) -> str:
    flags = " ".join(f"{name}={value}" for name, value in spec.flags.items())
    return f"{spec.engine} {flags}".strip()
