"""Fixtures of the server's tests: one shared server, and a maker of special ones."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from server_harness import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with default limits."""
    running = Server()
    assert running.port, running.stderr()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.stderr()
    running.close()


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Start servers with special settings; they are ended after the test."""
    servers: list[Server] = []

    def start(engine: dict[str, Any] | None = None, **config: Any) -> Server:
        servers.append(Server(engine, **config))
        return servers[-1]

    yield start
    for running in servers:
        running.kill()
        running.close()
