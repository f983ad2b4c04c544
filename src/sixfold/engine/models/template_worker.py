"""Renders chat templates: the sandbox itself, and a process around it that may be killed.

Run as a file, `python -I template_worker.py`, with a stream socket as standard input and output;
frames are JSON lines. It imports only the standard library and jinja2, holds no state but compiled
templates, opens nothing, and limits itself: address space, file size, a timer per render.
Not here: who starts and kills it, and what a request may hold (`chat_template`).

The sandbox is jinja2's ImmutableSandboxedEnvironment with what Hugging Face's templates expect:
trimmed blocks, loop controls, `raise_exception`, `strftime_now`, a plain `tojson`, and
{% generation %} marks, which are ignored.
"""

import datetime
import functools
import json
import re
import resource
import signal
import sys
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT_CHARS = 1 << 20
MAX_TEMPLATE_CHARS = 1 << 20
ADDRESS_SPACE_BYTES = 512 << 20
RENDER_SECONDS = 2.0
"""The worker's own alarm, for the case that nobody is left to kill it."""

_GENERATION = re.compile(r"\{%([-+]?)\s*generation\s*([-+]?)%\}")
_END_GENERATION = re.compile(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}")


def _raise_exception(message: object) -> NoReturn:
    """A template's way to refuse a conversation."""
    raise jinja2.TemplateError(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON, as Hugging Face has it: jinja2's own filter escapes HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    source = _GENERATION.sub(r"{%\1 if true \2%}", template)
    return _environment().from_string(_END_GENERATION.sub(r"{%\1 endif \2%}", source))


def render(template: str, variables: dict[str, Any]) -> dict[str, str]:
    """{"text": ...} or {"error": ..., "kind": ...}; never raises.

    Bounds the output but not the time: whoever calls this outside the worker must trust the
    template. `kind` is refused (the template's own raise_exception), broken or size.
    """
    try:
        parts: list[str] = []
        size = 0
        for part in _compiled(template).generate(variables):
            size += len(part)
            if size > MAX_OUTPUT_CHARS:
                return _failure("size", f"more than {MAX_OUTPUT_CHARS} characters came out")
            parts.append(part)
        return {"text": "".join(parts)}
    except MemoryError:
        return _failure("size", "it ran out of memory")
    except jinja2.TemplateError as error:
        plain = type(error) is jinja2.TemplateError
        return _failure("refused" if plain else "broken", _describe(error, plain))
    except Exception as error:  # a template can provoke any exception there is
        return _failure("broken", _describe(error, False))


def _failure(kind: str, message: str) -> dict[str, str]:
    return {"kind": kind, "error": message[:500]}


def _describe(error: Exception, plain: bool) -> str:
    try:
        text = str(error)
    except Exception:  # an exception's text may itself fail
        text = ""
    return text if plain else f"{type(error).__name__}: {text}"


def _limit_self() -> None:
    """Lower limits for good; what jinja2 needs is loaded by now."""
    render("{% for x in [1] %}{{ x | tojson }}{% endfor %}{{ y.z }}", {})
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    space = ADDRESS_SPACE_BYTES if most < 0 else min(most, ADDRESS_SPACE_BYTES)
    for name, value in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    """Serve renders until the other end closes."""
    _limit_self()
    out = sys.stdout.buffer
    out.write(b"{}\n")
    out.flush()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, RENDER_SECONDS)
        try:
            request = json.loads(line)
            answer = json.dumps(render(request["template"], request["variables"]))
        except (ValueError, RecursionError, MemoryError):
            answer = json.dumps(_failure("size", "the variables are too large"))
        signal.setitimer(signal.ITIMER_REAL, 0)
        out.write(answer.encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
