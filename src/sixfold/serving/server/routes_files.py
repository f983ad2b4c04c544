"""/v1/files: uploads, and results of batches. Not here: where they are kept (batch/store.py)."""

import asyncio
import shutil
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp

from sixfold.core.errors import NotFoundError, RequestError
from sixfold.serving.batch.objects import FileObject
from sixfold.serving.batch.service import BatchService
from sixfold.serving.batch.store import BatchStore, new_file, synced
from sixfold.serving.server.http_errors import HttpError
from sixfold.serving.server.responses import to_json
from sixfold.serving.server.state import ServerState

PURPOSES = ("batch",)
LIST_LIMIT, MAX_LIST = 100, 10_000
COPY_BYTES = 1 << 20


async def upload(state: ServerState, request: Request) -> ASGIApp:
    """POST /v1/files: a form with `purpose` and `file`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HttpError(415, "the body must be a form", "send multipart/form-data")
    service = service_of(state)
    async with request.form(max_files=1, max_fields=8) as form:
        purpose, file = form.get("purpose"), form.get("file")
        if purpose not in PURPOSES:
            raise RequestError("purpose must be batch", "purpose=batch", param="purpose")
        if not isinstance(file, UploadFile):
            raise RequestError("the form has no file", "send it as file", param="file")
        incoming = await service.stored(lambda store: store.incoming())
        size = await asyncio.to_thread(_copy, file.file, incoming)
        if size > state.config.max_file_mb << 20:
            incoming.unlink()
            raise HttpError(413, "the file is too large", "split it, or raise --max-file-mb")
        made = new_file(size, (file.filename or "file.jsonl")[:256], str(purpose))
        tenant = tenant_of(request)
        kept = await service.stored(lambda store: store.keep(incoming, made, tenant))
    return json_response(kept)


async def list_files(state: ServerState, request: Request) -> ASGIApp:
    """GET /v1/files."""
    limit, after = page_of(request)
    purpose, tenant = request.query_params.get("purpose", ""), tenant_of(request)
    return json_response(
        await service_of(state).stored(
            lambda store: store.page(FileObject, tenant, limit, after, purpose)
        )
    )


async def show(state: ServerState, request: Request) -> ASGIApp:
    """GET /v1/files/{id}."""
    return json_response(await _file(state, request))


async def content(state: ServerState, request: Request) -> ASGIApp:
    """GET /v1/files/{id}/content: its bytes."""
    file = await _file(state, request)
    path = await service_of(state).stored(lambda store: store.content(file.id))
    return FileResponse(path, media_type="application/octet-stream", filename=file.filename)


async def delete(state: ServerState, request: Request) -> ASGIApp:
    """DELETE /v1/files/{id}."""
    file, tenant = await _file(state, request), tenant_of(request)

    def forget(store: BatchStore) -> None:
        store.delete_file(file.id, tenant)

    await service_of(state).stored(forget)
    return json_response({"id": file.id, "object": "file", "deleted": True})


async def _file(state: ServerState, request: Request) -> FileObject:
    name, tenant = request.path_params["id"], tenant_of(request)
    return await service_of(state).stored(lambda store: store.get(FileObject, name, tenant))


def service_of(state: ServerState) -> BatchService:
    """What keeps files and batches. Raises NotFoundError where this server has none."""
    if state.batches is None:
        raise NotFoundError("this server keeps no files or batches", "serve with --enable-batches")
    return state.batches


def tenant_of(request: Request) -> str:
    """Whose files these are."""
    return str(request.scope["state"]["tenant"])


def page_of(request: Request) -> tuple[int, str | None]:
    """(limit, after) of a list. Raises RequestError."""
    text = request.query_params.get("limit", str(LIST_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_LIST):
        raise RequestError(f"limit must be 1 to {MAX_LIST}", "leave it out", param="limit")
    return int(text), request.query_params.get("after")


def json_response(value: object) -> Response:
    """200 with JSON."""
    return Response(to_json(value), media_type="application/json")


def _copy(source: BinaryIO, path: Path) -> int:
    with path.open("wb") as out:
        shutil.copyfileobj(source, out, COPY_BYTES)
    return synced(path)
