"""What the verbs' tests share: a real server with the fake engine behind it."""

import time

import pytest
from server_harness import PATIENCE, Server


@pytest.fixture(scope="module")
def fake_server():
    running = Server()
    deadline = time.monotonic() + PATIENCE
    while not running.ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield running
    assert running.stop() == 0
    running.close()
