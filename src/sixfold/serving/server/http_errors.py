"""Errors as HTTP: status, OpenAI's error object, headers. Never a path, a stack or a pointer.

Not here: where errors come from.
"""

from starlette.responses import Response

from sixfold.core.errors import (
    DeadlineError,
    EngineDeadError,
    NotFoundError,
    OverloadedError,
    RequestError,
    SixfoldError,
)
from sixfold.serving.server.responses import ErrorBody, ErrorResponse, to_json


class HttpError(SixfoldError):
    """An error of HTTP itself: its status says most of it. `close` ends the connection."""

    def __init__(self, status: int, message: str, hint: str = "", close: bool = False) -> None:
        super().__init__(message, hint)
        self.status = status
        self.close = close


_KINDS: tuple[tuple[type[SixfoldError], int, str, str], ...] = (
    (RequestError, 400, "invalid_request_error", "invalid_request"),
    (NotFoundError, 404, "invalid_request_error", "not_found"),
    (OverloadedError, 503, "overloaded_error", "overloaded"),
    (EngineDeadError, 503, "engine_error", "engine_dead"),
    (DeadlineError, 504, "timeout_error", "deadline_exceeded"),
)

_HTTP_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    503: "overloaded_error",
}
_RETRY_SECONDS = 2


def describe(error: Exception) -> tuple[int, ErrorResponse]:
    """(HTTP status, body) of any exception; what isn't a SixfoldError says nothing of itself."""
    if not isinstance(error, SixfoldError):
        body = ErrorBody(message="internal error", type="server_error", code="internal_error")
        return 500, ErrorResponse(body)
    text = f"{error.message} (hint: {error.hint})" if error.hint else error.message
    param = getattr(error, "param", None)
    status, kind, code = 500, "server_error", "engine_fault"
    if isinstance(error, HttpError):
        status = error.status
        kind, code = _HTTP_TYPES.get(status, "invalid_request_error"), f"http_{status}"
    for cls, known_status, known_kind, known_code in _KINDS:
        if isinstance(error, cls):
            status, kind, code = known_status, known_kind, known_code
    return status, ErrorResponse(ErrorBody(message=text, type=kind, param=param, code=code))


def error_response(error: Exception, close: bool = False) -> Response:
    """The answer to a request that failed before its answer began."""
    status, body = describe(error)
    headers = {}
    if status == 503:
        seconds = getattr(error, "retry_after", _RETRY_SECONDS)
        headers["retry-after"] = str(max(1, round(seconds)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if close or getattr(error, "close", False):
        headers["connection"] = "close"
    return Response(to_json(body), status, headers, media_type="application/json")
