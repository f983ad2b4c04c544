"""The ASGI application: the table of routes behind the gate. Not here: what routes do."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from sixfold.serving.server import (
    routes_admin,
    routes_batches,
    routes_files,
    routes_openai,
    routes_pooling,
)
from sixfold.serving.server.limits import Gate
from sixfold.serving.server.state import ServerState

Handler = Callable[[ServerState, Request], Awaitable[ASGIApp]]

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/completions", routes_openai.completions),
    ("POST", "/v1/chat/completions", routes_openai.chat_completions),
    ("POST", "/v1/embeddings", routes_pooling.embeddings),
    ("POST", "/v1/rerank", routes_pooling.rerank),
    ("POST", "/rerank", routes_pooling.rerank),
    ("POST", "/v1/score", routes_pooling.score),
    ("POST", "/score", routes_pooling.score),
    ("POST", "/v1/files", routes_files.upload),
    ("GET", "/v1/files", routes_files.list_files),
    ("GET", "/v1/files/{id}", routes_files.show),
    ("GET", "/v1/files/{id}/content", routes_files.content),
    ("DELETE", "/v1/files/{id}", routes_files.delete),
    ("POST", "/v1/batches", routes_batches.create),
    ("GET", "/v1/batches", routes_batches.list_batches),
    ("GET", "/v1/batches/{id}", routes_batches.show),
    ("POST", "/v1/batches/{id}/cancel", routes_batches.cancel),
    ("GET", "/v1/models", routes_admin.models),
    ("GET", "/v1/models/{id:path}", routes_admin.model),
    ("POST", "/tokenize", routes_admin.tokenize),
    ("POST", "/detokenize", routes_admin.detokenize),
    ("GET", "/health", routes_admin.health),
    ("GET", "/ready", routes_admin.ready),
    ("GET", "/version", routes_admin.version),
    ("GET", "/load", routes_admin.load),
    ("GET", "/metrics", routes_admin.metrics_page),
    ("POST", "/reset_prefix_cache", routes_admin.reset_prefix_cache),
)
"""Method, path and handler of everything that the server answers."""


def build_app(state: ServerState) -> ASGIApp:
    """The application over `state`."""
    routes = [
        Route(path, _bind(state, handler), methods=[method]) for method, path, handler in ROUTES
    ]
    return Gate(Router(routes, redirect_slashes=False), state)


def _bind(state: ServerState, handler: Handler) -> Callable[[Request], Awaitable[ASGIApp]]:
    async def endpoint(request: Request) -> ASGIApp:
        return await handler(state, request)

    return endpoint
