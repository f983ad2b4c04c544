"""Lines of the result files, in the shape of OpenAI's batch output. Not here: where they go."""

import hashlib
from typing import Any

import msgspec

from sixfold.serving.batch.ledger import ERRORS, OUTPUT, Row
from sixfold.serving.batch.lines import Bad, Task
from sixfold.serving.batch.target import Answer


class Response(msgspec.Struct):
    """`response` of a row."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class Failure(msgspec.Struct):
    """`error` of a row."""

    code: str
    message: str


class Result(msgspec.Struct, kw_only=True):
    """A row of the output; `error` is null."""

    id: str
    custom_id: str
    response: Response
    error: None = None


class Failed(msgspec.Struct, kw_only=True):
    """A row of the errors. A line whose custom_id is another line's has none."""

    id: str
    custom_id: str | None
    response: Response | None
    error: Failure
    line: int


class _Error(msgspec.Struct):
    error: Any = None


def row_of(task: Task, answer: Answer) -> Row:
    """What a task's answer becomes: an output line, or an error line."""
    response = Response(answer.status, answer.request_id, msgspec.Raw(answer.body))
    if answer.status == 200:
        result = Result(id=_id(task.line, task.custom_id), custom_id=task.custom_id,
                        response=response)  # fmt: skip
        return Row(task.line, OUTPUT, _line(result), task.digest, False, answer.prompt_tokens,
                   answer.output_tokens, answer.cached_tokens)  # fmt: skip
    code, message = _said(answer)
    return _failed(task.line, task.custom_id, response, Failure(code, message))


def copied(task: Task, row: bytes) -> Row:
    """The row of a task whose question was answered before, by the answer's row."""
    result = msgspec.json.decode(row, type=Result)
    result.id, result.custom_id = _id(task.line, task.custom_id), task.custom_id
    return Row(task.line, OUTPUT, _line(result), task.digest, True)


def bad_row(bad: Bad) -> Row:
    """The row of a line that could not be run."""
    return _failed(bad.line, bad.custom_id, None, Failure(bad.code, bad.message))


def gave_up(task: Task, code: str, message: str) -> Row:
    """The row of a task that no try has answered."""
    return _failed(task.line, task.custom_id, None, Failure(code, message))


def _failed(line: int, custom_id: str | None, response: Response | None, error: Failure) -> Row:
    failed = Failed(id=_id(line, custom_id), custom_id=custom_id, response=response, error=error,
                    line=line)  # fmt: skip
    return Row(line, ERRORS, _line(failed))


def _said(answer: Answer) -> tuple[str, str]:
    """Code and message of an error's body, whatever it holds."""
    try:
        error = msgspec.json.decode(answer.body, type=_Error).error
    except (msgspec.MsgspecError, ValueError):
        error = None
    if not isinstance(error, dict):
        return f"http_{answer.status}", str(error or "no reason was given")[:2000]
    code = error.get("code") or error.get("type") or f"http_{answer.status}"
    return str(code)[:100], str(error.get("message"))[:2000]


def _id(line: int, custom_id: str | None) -> str:
    name = f"{line}:{custom_id}".encode("utf-8", "surrogatepass")
    return f"batch_req_{hashlib.blake2b(name, digest_size=12).hexdigest()}"


def _line(value: Result | Failed) -> bytes:
    return msgspec.json.encode(value) + b"\n"
