"""An advice as lines for a terminal.

Not here: the page to hand over (plan.py).
"""

from collections.abc import Iterator
from textwrap import wrap

from sixfold.instrument.advisor.advice import Advice, Cause, Evidence
from sixfold.instrument.advisor.remedies import Step
from sixfold.instrument.advisor.validate import Verdict

WIDTH = 98


def lines(advice: Advice) -> Iterator[str]:
    """All of it, the answer first."""
    yield _subject(advice)
    yield ""
    if advice.state == "healthy":
        yield "HEALTHY: the objective is met; nothing to do."
        yield from (f"  - {text}" for text in advice.fine)
    elif advice.state == "abstained":
        yield from _filled(f"ABSTAINED: {advice.why}.", "")
    for number, cause in enumerate(advice.causes, 1):
        yield from _cause(number, cause)
    yield from _steps(advice)
    yield from _lacks(advice)
    if advice.notes:
        yield "notes:"
        for note in advice.notes:
            yield from _filled(note, "  - ")


def _subject(advice: Advice) -> str:
    what = " ".join(filter(None, (advice.engine or "unknown engine", advice.version, advice.model)))
    looked = f", looked for {advice.seconds:.0f} s" if advice.seconds else ""
    return f"{', '.join(advice.subject)}: {what}{looked}; objective {advice.slo}"


def _cause(number: int, cause: Cause) -> Iterator[str]:
    yield f"CAUSE {number}: {cause.title}  [{cause.symptom}]"
    yield from _filled(cause.why, "  ")
    for one in cause.evidence:
        known = f"{one.how}: {one.source}" if one.source else one.how
        yield f"    {amount(one):>16}  {one.what} ({known})"
    yield from _filled(f"told by: {cause.threshold}; thresholds: {cause.source}", "  ")
    yield ""


def amount(one: Evidence) -> str:
    """A signal's value as people write it."""
    if one.value is None:
        return "missing"
    if one.unit == "s":
        return f"{one.value * 1000:.4g} ms"
    if one.unit == "x":
        return f"{one.value:.3g}x"
    if one.unit == "":
        flag = one.value in (0, 1) and ("1 where" in one.what)
        return ("yes" if one.value else "no") if flag else f"{one.value:.1%}"
    return f"{one.value:.4g} {one.unit}"


def _steps(advice: Advice) -> Iterator[str]:
    useful = [step for step in advice.steps if not step.do_not]
    for number, step in enumerate(useful, 1):
        yield from _step(number, step)
    for step in advice.steps:
        if step.do_not:
            yield f"DO NOT use here: {called(step)}, for {step.do_not}"
    if advice.steps:
        yield ""


def called(step: Step) -> str:
    """A step's own name: its strategy's, or what is done."""
    return f"{step.strategy} ({step.do.lower()})" if step.strategy else step.do.lower()


def _step(number: int, step: Step) -> Iterator[str]:
    yield f"STEP {number}: {step.do}" + (f"  [{step.strategy}]" if step.strategy else "")
    if step.flags:
        yield f"    flags    {step.flags}"
        yield f"    undo     {step.undo}"
    elif step.note:
        yield f"    note     {step.note}"
    yield f"    verify   {step.verify}"
    for text in step.side_effects:
        yield f"    costs    {text}"


def _lacks(advice: Advice) -> Iterator[str]:
    if not advice.lacks:
        return
    yield "missing:" if advice.state == "abstained" else "not checked, for a signal is missing:"
    for lack in advice.lacks:
        yield from _filled(f"{lack.signal} (hides {lack.hides}): {lack.enable}", "  - ")
    yield ""


def _filled(text: str, first: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))


def verdict_words(verdict: Verdict) -> str:
    """A verdict in one line: "GAIN: goodput +42 % (+30 % to +55 %), 3 pairs"."""
    head = f"{verdict.call}: {verdict.metric}"
    if verdict.ratio is None or verdict.low is None or verdict.high is None:
        return f"{head}, {verdict.pairs} pairs; {verdict.why}" if verdict.why else head
    middle, low, high = (
        f"{ratio - 1:+.0%}" for ratio in (verdict.ratio, verdict.low, verdict.high)
    )
    return f"{head} {middle} ({low} to {high}), {verdict.pairs} pairs"
