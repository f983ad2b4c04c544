"""One advice: the diagnosis with its evidence, and the ranked steps, as one plain record.

Not here: how it is shown (words.py, plan.py), whether it helps (validate.py).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from sixfold.core.point import Point
from sixfold.core.slo import Slo
from sixfold.instrument.advisor.diagnose import Diagnosis, Finding, Lack, State, diagnose
from sixfold.instrument.advisor.evidence import of_point, of_window, together
from sixfold.instrument.advisor.history.past import Past
from sixfold.instrument.advisor.remedies import Step, steps
from sixfold.instrument.advisor.settings import complete
from sixfold.instrument.advisor.signals import SIGNALS, Reading, Readings, values_of
from sixfold.instrument.advisor.window import Setting, Window

SURE = 0.5
"""r2 of a trend that counts as a signal; the notes' value for slopes."""


class Evidence(msgspec.Struct, frozen=True):
    """A signal that told a cause."""

    signal: str
    value: float | None
    """None where it is missing."""
    unit: str
    what: str
    how: str
    """measured, derived, set or missing."""
    source: str


class Cause(msgspec.Struct, frozen=True):
    """A symptom that was found."""

    symptom: str
    title: str
    why: str
    threshold: str
    """The conditions that held."""
    source: str
    """Where their thresholds come from."""
    evidence: tuple[Evidence, ...]


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What is the matter with a server, and what to do."""

    date: str
    subject: tuple[str, ...]
    """Addresses, or a benchmark's record."""
    engine: str
    version: str = ""
    model: str = ""
    slo: str
    seconds: float = 0.0
    """How long was looked; 0 for a record."""
    state: State
    why: str = ""
    """Of an abstention."""
    causes: tuple[Cause, ...] = ()
    steps: tuple[Step, ...] = ()
    fine: tuple[str, ...] = ()
    lacks: tuple[Lack, ...] = ()
    readings: dict[str, Reading] = {}
    settings: dict[str, Setting] = {}
    notes: tuple[str, ...] = ()


def of_windows(
    windows: Sequence[Window],
    slo: Slo,
    extra: Mapping[str, Setting] | None = None,
    told: Readings | None = None,
) -> Advice:
    """Of servers that were looked at; `extra`: settings that the user says; `told`: signals."""
    extra = extra or {}
    notes = tuple(f"{w.name}: {note}" for w in windows for note in w.notes)
    seen = [window for window in windows if window.gauges or window.grown]
    engines = sorted({window.engine for window in seen})
    engine = engines[0] if len(engines) == 1 else ""
    settings = dict(seen[0].settings) | dict(extra) if seen else dict(extra)
    replicas = [of_window(_with(window, extra), slo) for window in seen]
    readings = (together(replicas) if replicas else {}) | (told or {})
    if why := _unsound(windows, seen, engines):
        diagnosis = Diagnosis(state="abstained", broken=None, why=why)
    else:
        diagnosis = diagnose(readings, slo, engine, replicas=len(seen))
    return _advice(
        diagnosis,
        readings,
        Advice(
            date=_now(),
            subject=tuple(window.name for window in windows),
            engine=engine,
            version=seen[0].version if seen else "",
            model=seen[0].model if seen else "",
            slo=str(slo),
            seconds=max((window.seconds for window in seen), default=0.0),
            state=diagnosis.state,
            settings=settings,
            notes=notes,
        ),
        replicas=len(seen),
    )


def of_history(past: Past, slo: Slo, extra: Mapping[str, Setting] | None = None) -> Advice:
    """Of the busiest stretch of a history, all replicas together."""
    windows = [
        replica.peak or Window(name=replica.name, notes=("it was not there at the peak",))
        for replica in past.replicas
    ]
    slope = past.trends.get("tpot_by_context")
    said = [f"busiest by {past.load_by}"] if past.load_by else []
    told: Readings = {}
    if slope is not None and slope.ratio is not None:
        if slope.r2 >= SURE:
            told["context_slope"] = Reading(slope.ratio, "derived", "the history's trend")
        said.append(
            f"time per token against context: x{slope.ratio:.2f} from {slope.low:.0f} to "
            f"{slope.high:.0f} tokens (r2 {slope.r2:.2f}, {slope.n} steps)"
        )
    advice = of_windows(windows, slo, extra, told)
    return msgspec.structs.replace(advice, notes=(*said, *past.notes, *advice.notes))


def of_record(point: Point, slo: Slo, extra: Mapping[str, Setting] | None = None,
              told: Readings | None = None) -> Advice:  # fmt: skip
    """Of a benchmark's point. `told`: signals that it does not hold, such as a trace's."""
    # A command that is known was started with these flags and no others.
    flags = complete(point.engine, point.config) if point.command else dict(point.config)
    settings = flags | dict(extra or {})
    readings = of_point(msgspec.structs.replace(point, config=settings), slo) | (told or {})
    diagnosis = diagnose(readings, slo, point.engine, client=True)
    notes = tuple(str(note) for note in point.telemetry.get("notes", ()))
    return _advice(
        diagnosis,
        readings,
        Advice(
            date=_now(),
            subject=(point.study or point.id,),
            engine=point.engine,
            version=point.engine_version,
            model=point.model,
            slo=str(slo),
            state=diagnosis.state,
            settings=settings,
            notes=notes,
        ),
    )


def _unsound(windows: Sequence[Window], seen: Sequence[Window], engines: Sequence[str]) -> str:
    """Why nothing should be said of these servers at all; empty if something may."""
    if not seen:
        return "no metrics could be read"
    if len(seen) < len(windows):
        return f"{len(windows) - len(seen)} of {len(windows)} replicas can't be read: see to them"
    if all(window.grown.get("generation_tokens") == 0 for window in seen):
        return "nothing was generated meanwhile: look while it is in use, or longer (--look 60s)"
    if len(engines) > 1:
        return f"these are different engines: {', '.join(engines)}; ask about one at a time"
    return ""


def _with(window: Window, extra: Mapping[str, Setting]) -> Window:
    return msgspec.structs.replace(window, settings=window.settings | dict(extra))


def _advice(diagnosis: Diagnosis, readings: Readings, frame: Advice, replicas: int = 1) -> Advice:
    known = values_of(readings) | {"replicas": float(replicas)}
    return msgspec.structs.replace(
        frame,
        why=diagnosis.why,
        causes=tuple(_cause(finding, readings) for finding in diagnosis.findings),
        steps=steps(diagnosis, known, frame.engine, frame.settings),
        fine=tuple(symptom.title for symptom in diagnosis.fine),
        lacks=diagnosis.lacks,
        readings=readings,
    )


def _cause(finding: Finding, readings: Readings) -> Cause:
    symptom = finding.symptom
    return Cause(
        symptom=symptom.id,
        title=symptom.title,
        why=symptom.cause,
        threshold=", ".join(map(str, symptom.conditions)),
        source=symptom.source,
        evidence=tuple(_evidence(name, readings) for name in finding.signals if name in SIGNALS),
    )


def _evidence(name: str, readings: Readings) -> Evidence:
    signal, reading = SIGNALS[name], readings.get(name)
    if reading is None:
        return Evidence(name, None, signal.unit, signal.what, "missing", "")
    return Evidence(name, reading.value, signal.unit, signal.what, reading.how, reading.source)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
