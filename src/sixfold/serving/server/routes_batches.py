"""/v1/batches: begin, see, list and cancel. Not here: running them (batch/service.py)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.types import ASGIApp

from sixfold.serving.batch.objects import BatchObject
from sixfold.serving.server.protocol import decode_body
from sixfold.serving.server.routes_files import json_response, page_of, service_of, tenant_of
from sixfold.serving.server.routes_openai import read_json_body
from sixfold.serving.server.state import ServerState

_Key = Annotated[str, Meta(max_length=64)]
_Value = Annotated[str, Meta(max_length=512)]


class BatchFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/batches."""

    input_file_id: Annotated[str, Meta(max_length=128)]
    endpoint: Annotated[str, Meta(max_length=128)]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[_Key, _Value], Meta(max_length=16)] | None = None


async def create(state: ServerState, request: Request) -> ASGIApp:
    """POST /v1/batches."""
    fields = decode_body(await read_json_body(request), BatchFields)
    batch = await service_of(state).create(
        tenant_of(request), fields.input_file_id, fields.endpoint, fields.metadata
    )
    return json_response(batch)


async def show(state: ServerState, request: Request) -> ASGIApp:
    """GET /v1/batches/{id}."""
    return json_response(await service_of(state).get(tenant_of(request), request.path_params["id"]))


async def cancel(state: ServerState, request: Request) -> ASGIApp:
    """POST /v1/batches/{id}/cancel."""
    return json_response(
        await service_of(state).cancel(tenant_of(request), request.path_params["id"])
    )


async def list_batches(state: ServerState, request: Request) -> ASGIApp:
    """GET /v1/batches."""
    limit, after = page_of(request)
    tenant = tenant_of(request)
    return json_response(
        await service_of(state).stored(lambda store: store.page(BatchObject, tenant, limit, after))
    )
