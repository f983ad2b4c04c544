"""Files and batches as the API shows them, in OpenAI's shape. Data only."""

from typing import Any

import msgspec

from sixfold.core.errors import NotFoundError

QUEUED, RUNNING, CANCELLING = "validating", "in_progress", "cancelling"
COMPLETED, FAILED, CANCELLED, EXPIRED = "completed", "failed", "cancelled", "expired"
LIVE = (QUEUED, RUNNING, CANCELLING)
"""States of a batch that goes on, also after a restart."""


class FileObject(msgspec.Struct, kw_only=True):
    """A file: an input that was uploaded, or a batch's results."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: str = "file"
    status: str = "processed"


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Of a batch's lines."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchError(msgspec.Struct, kw_only=True):
    """Why a batch failed as a whole."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(msgspec.Struct):
    """`errors` of a batch."""

    data: list[BatchError]
    object: str = "list"


class BatchObject(msgspec.Struct, kw_only=True):
    """A batch."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    status: str = QUEUED
    object: str = "batch"
    errors: BatchErrors | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    metadata: dict[str, str] | None = None
    estimated_completion_at: int | None = None
    """Ours, not OpenAI's: while it runs, when it ends at the pace that it has had so far. Later
    than `expires_at`: not all lines will be answered."""


class Listing(msgspec.Struct, kw_only=True):
    """A page of files or batches, the newest first."""

    data: list[Any]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: str = "list"


def missing(what: str, name: str) -> NotFoundError:
    """The error for an id that is not there, or not this tenant's."""
    return NotFoundError(f"there is no {what} {name[:64]!r}", "list them to see their ids")
