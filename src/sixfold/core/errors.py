"""The one exception tree for errors that a user can act on. Bugs in our own code assert instead."""


class SixfoldError(Exception):
    """An error with a cause a user can mend. `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ConfigError(SixfoldError):
    """A flag, environment variable or TOML key has an unknown name or an impossible value."""


class ModelError(SixfoldError):
    """A model's files are missing, damaged, or of a kind this build does not run."""


class RequestError(SixfoldError):
    """A request is invalid (HTTP 400). `param` names the offending field."""

    def __init__(self, message: str, hint: str = "", param: str | None = None) -> None:
        super().__init__(message, hint)
        self.param = param


class NotFoundError(SixfoldError):
    """The named model, file or route does not exist (HTTP 404)."""


class OverloadedError(SixfoldError):
    """The queue is full or the server is draining (HTTP 503 with Retry-After, in seconds)."""

    def __init__(self, message: str, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class DeadlineError(SixfoldError):
    """The request's own deadline passed before it finished (HTTP 504)."""


class EngineDeadError(SixfoldError):
    """The engine process died while the request was in flight; it restarts on its own."""
