"""Sends the prefix cache's events to whoever listens, over ZeroMQ, as vLLM does.

PUB: (topic, sequence number as 8 bytes, msgpack of an EventBatch). Who has missed some asks the
replay address (ROUTER) with the first number wanted, and gets what is still known, then -1. Not
here: what the events are (kvcache/events.py).
"""

import threading
import time
from collections import deque
from types import ModuleType
from typing import Any

import msgspec

from sixfold.core.errors import ConfigError
from sixfold.engine.kvcache.events import Event, EventBatch

KEPT = 10_000
"""Batches that can be asked for again."""
HIGH_WATER = 100_000
END = (-1).to_bytes(8, "big", signed=True)
POLL_MS = 200


class KVPublisher:
    """Sends batches from the engine's thread; another one answers who has missed some.

    Raises ConfigError without pyzmq, or where an address can't be had.
    """

    def __init__(self, address: str, replay: str = "", topic: str = "") -> None:
        zmq = _zmq()
        self._topic = topic.encode()
        self._encode = msgspec.msgpack.Encoder().encode
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.set_hwm(HIGH_WATER)
        self._thread: threading.Thread | None = None
        router = self._context.socket(zmq.ROUTER) if replay else None
        try:
            _bind(zmq, self._socket, address, "--kv-events")
            if router is not None:
                _bind(zmq, router, replay, "--kv-events-replay")
        except ConfigError:
            self._context.destroy(linger=0)
            raise
        if router is not None:
            self._thread = threading.Thread(target=self._serve, args=(router,), daemon=True)
            self._thread.start()

    def publish(self, events: list[Event]) -> None:
        """One batch. Never blocks: who listens too slowly loses some, and can ask again."""
        if not events:
            return
        payload = self._encode(EventBatch(time.time(), events, 0))
        with self._lock:
            number, self._number = self._number, self._number + 1
            self._kept.append((number, payload))
        self._socket.send_multipart((self._topic, number.to_bytes(8, "big"), payload))

    def close(self) -> None:
        """Let go of the addresses."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close(linger=0)
        self._context.term()

    def _serve(self, router: Any) -> None:
        while not self._stop.is_set():
            if not router.poll(POLL_MS):
                continue
            frames = router.recv_multipart()
            if len(frames) == 3 and len(frames[2]) == 8:
                self._replay(router, frames[0], int.from_bytes(frames[2], "big"))
        router.close(linger=0)

    def _replay(self, router: Any, client: bytes, first: int) -> None:
        with self._lock:
            wanted = [(number, payload) for number, payload in self._kept if number >= first]
        for number, payload in wanted:
            frames = (client, b"", self._topic, number.to_bytes(8, "big"), payload)
            router.send_multipart(frames)
        router.send_multipart((client, b"", b"", END, b""))


def _zmq() -> ModuleType:
    try:
        import zmq
    except ImportError as error:
        raise ConfigError(
            "events of the KV cache need pyzmq", "pip install 'sixfold[events]'"
        ) from error
    return zmq


def _bind(zmq: ModuleType, socket: Any, address: str, flag: str) -> None:
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise ConfigError(
            f"cannot bind {address}: {error}", f"give {flag} an address as tcp://127.0.0.1:5557"
        ) from error
