"""An advice as one page to hand over, in Markdown or HTML: cause, steps, roll back, how to verify.

Not here: the terminal's words (words.py).
"""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

from sixfold.core.errors import ConfigError
from sixfold.instrument.advisor.advice import Advice, Cause
from sixfold.instrument.advisor.remedies import Step
from sixfold.instrument.advisor.scoreboard import Entry
from sixfold.instrument.advisor.words import amount, called, verdict_words

KINDS = (".md", ".html")


def check_path(path: Path) -> None:
    """Raises ConfigError for a file that is neither."""
    if path.suffix not in KINDS:
        raise ConfigError(
            f"{path.name}: a plan is Markdown or HTML", "name it plan.md or plan.html"
        )


def write_plan(path: Path, advice: Advice, entries: Sequence[Entry] = ()) -> None:
    """Write the page."""
    check_path(path)
    text = "\n".join(markdown(advice, entries)) + "\n"
    path.write_text(as_html(text) if path.suffix == ".html" else text, encoding="utf-8")


def markdown(advice: Advice, entries: Sequence[Entry] = ()) -> Iterator[str]:
    """The page's lines."""
    yield f"# {_headline(advice)}"
    yield ""
    what = " ".join(filter(None, (advice.engine or "unknown engine", advice.version, advice.model)))
    yield f"- Server: {', '.join(advice.subject)} ({what})"
    yield f"- Objective: `{advice.slo}`"
    yield f"- Date: {advice.date}" + (
        f", looked for {advice.seconds:.0f} s" if advice.seconds else ""
    )
    yield ""
    for cause in advice.causes:
        yield from _cause(cause)
    useful = [step for step in advice.steps if not step.do_not]
    if useful:
        yield "## Steps, in this order"
        yield ""
    for number, step in enumerate(useful, 1):
        yield from _step(number, step, entries)
    if refused := [step for step in advice.steps if step.do_not]:
        yield "## Do not use here"
        yield ""
        yield from (f"- {called(step)}: {step.do_not}" for step in refused)
        yield ""
    if advice.lacks or advice.notes:
        yield "## Not known"
        yield ""
        yield from (f"- {lack.signal}: {lack.enable}" for lack in advice.lacks)
        yield from (f"- {note}" for note in advice.notes)


def _headline(advice: Advice) -> str:
    if advice.causes:
        return advice.causes[0].title
    return "Nothing to do" if advice.state == "healthy" else f"No advice: {advice.why}"


def _cause(cause: Cause) -> Iterator[str]:
    yield f"## Cause: {cause.title}"
    yield ""
    yield cause.why
    yield ""
    yield "| signal | value | how it is known |"
    yield "| --- | ---: | --- |"
    for one in cause.evidence:
        yield f"| {one.what} | {amount(one)} | {one.how} {one.source} |"
    yield ""
    yield f"Told by `{cause.threshold}`. Thresholds: {cause.source}."
    yield ""


def _step(number: int, step: Step, entries: Sequence[Entry]) -> Iterator[str]:
    named = f" ({step.strategy})" if step.strategy else ""
    yield f"{number}. **{step.do}**{named}"
    if step.flags:
        yield f"   - Flags: `{step.flags}`"
        yield f"   - Roll back: `{step.undo}`"
    elif step.note:
        yield f"   - {step.note}"
    yield f"   - Verify: {step.verify}"
    yield from (f"   - Costs: {text}" for text in step.side_effects)
    for entry in entries:
        if entry.remedy == step.remedy:
            yield f"   - Tried: {verdict_words(entry.verdict)}"
    yield ""


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}table{border-collapse:collapse}td,th{border:1px solid #ccc;"
    "padding:.2rem .5rem;text-align:left}code{background:#f2f2f2;padding:0 .2rem}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#181818}code{background:#333}}"
)


def as_html(text: str) -> str:
    """The Markdown of this module as a page; everything that a server said is escaped."""
    body = "\n".join(_blocks(html.escape(text, quote=False).split("\n")))
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>sixfold: plan</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _blocks(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip()
        if text.startswith("#"):
            level = len(text) - len(text.lstrip("#"))
            yield f"<h{level}>{_inline(text.lstrip('# '))}</h{level}>"
        elif text.startswith("| ---"):
            continue
        elif text.startswith("|"):
            cells = "".join(f"<td>{_inline(cell.strip())}</td>" for cell in text[1:-1].split("|"))
            yield f"<table><tr>{cells}</tr></table>"
        elif text:
            deep = "2rem" if line.startswith("   ") else "0"
            yield f"<p style='margin:.2rem 0 .2rem {deep}'>{_inline(text)}</p>"


def _inline(text: str) -> str:
    """Bold and code; a lone mark stays as it is."""
    for mark, tag in (("**", "strong"), ("`", "code")):
        parts = text.split(mark)
        if len(parts) % 2 == 0:
            continue
        text = "".join(f"<{tag}>{p}</{tag}>" if i % 2 else p for i, p in enumerate(parts))
    return text
