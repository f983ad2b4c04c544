"""What the routes share: configuration, tokenizer, engine client, metrics, and who may come in.

Not here: HTTP, processes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from sixfold.core.config import EngineConfig
from sixfold.core.errors import EngineDeadError, NotFoundError, OverloadedError
from sixfold.serving.server.config import ServerConfig
from sixfold.serving.server.engine_client import EngineClient
from sixfold.serving.server.ipc import Ready
from sixfold.serving.server.launch import ServerTokenizer
from sixfold.serving.server.metrics import ServerMetrics

if TYPE_CHECKING:
    from sixfold.serving.batch.service import BatchService

SLOW_TEXT = 4096
"""Characters from which text is tokenised in a thread: about a millisecond's work."""

T = TypeVar("T")


class ServerState:
    """One per server. `draining` is set once, on the first SIGTERM."""

    def __init__(
        self,
        engine_config: EngineConfig,
        config: ServerConfig,
        client: EngineClient,
        tokenizer: ServerTokenizer,
    ) -> None:
        self.engine_config = engine_config
        self.config = config
        self.client = client
        self.tokenizer = tokenizer
        self.model_name = config.served_model_name or engine_config.model
        self.metrics = ServerMetrics(self.model_name, engine_config)
        client.on_step = self.metrics.step
        self.started = time.time()
        self.batches: BatchService | None = None
        """Files and batches, where this server has them."""
        self.draining = False
        self.num_sequences = 0
        """Sequences admitted and not yet ended."""
        self.num_http = 0
        """HTTP requests being answered."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenize")

    @property
    def ready(self) -> bool:
        """True when a request that comes now would be served."""
        return self.client.ready and not self.draining

    def limits(self) -> Ready:
        """The engine's limits. Raises EngineDeadError while there is no engine."""
        if self.client.limits is None:
            self.metrics.reject("engine_down")
            raise EngineDeadError("the engine is starting", "wait until /ready answers 200")
        return self.client.limits

    def check_model(self, name: str | None) -> None:
        """Raises NotFoundError unless `name` is the served model, or left out."""
        if name is not None and name not in (self.model_name, self.engine_config.model):
            raise NotFoundError(
                f"the model {name[:128]!r} is not served here", f"use {self.model_name!r}"
            )

    @contextmanager
    def admit(self, sequences: int) -> Iterator[None]:
        """Hold places for a request's sequences. Raises OverloadedError when the queue is full.

        A request of very many sequences runs at most max_num_seqs of them at a time, and holds
        places for these only.
        """
        limits = self.limits()
        places = min(sequences, limits.max_num_seqs)
        if self.num_sequences + places > limits.max_num_seqs + self.config.max_queued_requests:
            self.metrics.reject("queue_full")
            raise OverloadedError("the queue is full", "send the request again later")
        self.num_sequences += places
        try:
            yield
        finally:
            self.num_sequences -= places

    @contextmanager
    def http_request(self) -> Iterator[None]:
        """Count an HTTP request, for the drain."""
        self.num_http += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.num_http -= 1
            if self.num_http == 0:
                self._idle.set()

    async def wait_idle(self, timeout: float) -> bool:
        """Wait until no HTTP request is being answered. False when `timeout` seconds passed."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def off_loop(self, size: int, work: Callable[[], T]) -> T:
        """Run `work` here when its text is short, else in a thread: the event loop goes on.

        What renders a chat template may wait for another process: it passes SLOW_TEXT.
        """
        if size < SLOW_TEXT:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
