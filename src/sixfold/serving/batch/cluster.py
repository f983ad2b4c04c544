"""A job's lines answered by a Ray cluster: an engine on each node, as nodes come and go.

A node that is lost costs what it had in flight: those lines are asked again elsewhere. Nodes need
this package and the model. Not here: the job, its ledger (they stay where the job was started).
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sixfold.core.config import EngineConfig
from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.lines import Task
from sixfold.serving.batch.order import SHARED
from sixfold.serving.batch.target import Answer, Unavailable

PLACES = 1024
"""Lines that are given out at once: more than a cluster's engines take; the others wait here."""

LOOK_SECONDS = 2.0
"""Between two looks at which nodes there are."""

START_SECONDS = 600.0
REACH_SECONDS = 10.0


class EngineActor:
    """On a node: its engine. Only plain data goes in and out."""

    def __init__(self, config: bytes) -> None:
        self._config = msgspec.json.decode(config, type=EngineConfig)
        self._stack = contextlib.AsyncExitStack()
        self._target: Any = None
        self._tickets = 0

    async def start(self) -> tuple[int, str]:
        """(places, "") once the engine is there, or (0, why it can't be)."""
        from sixfold.serving.batch.engine import running_engine
        from sixfold.serving.batch.local import LocalTarget

        try:
            state = await self._stack.enter_async_context(running_engine(self._config))
        except SixfoldError as error:
            return 0, error.message
        self._target = LocalTarget(state)
        return self._target.places, ""

    async def answer(self, task: bytes) -> tuple[bytes, str, bool]:
        """(an Answer as msgpack, "", False); or (nothing, why nobody answers, whether it lives)."""
        self._tickets += 1
        try:
            answer = await self._target.answer(
                msgspec.msgpack.decode(task, type=Task), self._tickets
            )
        except Unavailable as error:
            return b"", error.message, error.busy
        return msgspec.msgpack.encode(answer), "", False

    async def stop(self) -> None:
        """End the engine."""
        await self._stack.aclose()


@dataclass(slots=True, eq=False)
class _Node:
    actor: Any
    places: int
    used: int = 0
    prefix: str = ""
    """What its latest line begins with."""
    lost: bool = field(default=False)


class RayTarget:
    """See target.Target."""

    places = PLACES

    def __init__(self, ray: Any, config: EngineConfig) -> None:
        self._ray = ray
        self._config = msgspec.json.encode(config)
        self._nodes: dict[str, _Node] = {}
        self._starting: set[str] = set()
        self._changed = asyncio.Condition()
        self._problem = ""

    async def answer(self, task: Task, ticket: int) -> Answer:
        """See Target."""
        node = await self._place(task)
        try:
            data, why, lives = await node.actor.answer.remote(msgspec.msgpack.encode(task))
        except self._ray.exceptions.RayError as error:
            # Not the line's doing, as far as anybody knows: its engine is a process of its own.
            node.lost = True
            raise Unavailable(f"a node was lost: {type(error).__name__}", busy=True) from None
        finally:
            node.used -= 1
            async with self._changed:
                self._changed.notify_all()
        if why:
            raise Unavailable(why, busy=lives)
        return msgspec.msgpack.decode(data, type=Answer)

    def nodes(self) -> set[str]:
        """Ids of the nodes that answer."""
        return {name for name, node in self._nodes.items() if not node.lost}

    async def follow(self) -> None:
        """Keep an engine on every node that is alive, until cancelled."""
        starts: set[asyncio.Task[None]] = set()
        try:
            while True:
                alive = {
                    n["NodeID"] for n in await asyncio.to_thread(self._ray.nodes) if n["Alive"]
                }
                for name in [n for n, node in self._nodes.items() if node.lost or n not in alive]:
                    del self._nodes[name]
                for name in alive - self._nodes.keys() - self._starting:
                    self._starting.add(name)
                    start = asyncio.create_task(self._start(name))
                    starts.add(start)
                    start.add_done_callback(starts.discard)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for start in starts:
                start.cancel()

    async def ready(self) -> None:
        """Return when a node answers. Raises SixfoldError where none will."""
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_SECONDS):
                    await self._changed.wait_for(lambda: bool(self._nodes or self._problem))
        if not self._nodes:
            raise SixfoldError(
                f"no node of the cluster can run the engine: {self._problem or 'none answered'}",
                "is sixfold installed there, and the model pulled?",
            )

    async def stop(self) -> None:
        """End the engines."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(10):
                await asyncio.gather(*(n.actor.stop.remote() for n in self._nodes.values()))

    async def _start(self, name: str) -> None:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node_id=name, soft=False
        )
        options = {"num_cpus": 0, "max_concurrency": PLACES, "scheduling_strategy": strategy}
        actor = self._ray.remote(EngineActor).options(**options).remote(self._config)
        try:
            async with asyncio.timeout(START_SECONDS):
                places, problem = await actor.start.remote()
        except (TimeoutError, self._ray.exceptions.RayError) as error:
            places, problem = 0, f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            self._starting.discard(name)
        async with self._changed:
            if places:
                self._nodes[name] = _Node(actor, places)
            else:
                self._problem = problem
                print(f"node {name[:8]} can't run the engine: {problem}", file=sys.stderr)
            self._changed.notify_all()

    async def _place(self, task: Task) -> _Node:
        """A node with room: the one that had the same prefix last, else the emptiest."""
        async with self._changed:
            while True:
                free = [n for n in self._nodes.values() if n.used < n.places and not n.lost]
                if free:
                    break
                await self._changed.wait()
            prefix = task.prefix[:SHARED]
            node = min(free, key=lambda n: (n.prefix != prefix, n.used / n.places))
            node.used += 1
            node.prefix = prefix
            return node


def check_reachable(address: str) -> None:
    """Raises OSError where nobody listens at host:port: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), REACH_SECONDS).close()


@asynccontextmanager
async def ray_target(address: str, config: EngineConfig) -> AsyncGenerator[RayTarget, None]:
    """Engines on all nodes of the cluster at `address` ("local" starts one here).

    Raises SixfoldError where there is no cluster, or no node can run the engine.
    """
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise SixfoldError("--ray needs Ray", "pip install 'sixfold[cluster]'") from None
    try:
        await asyncio.to_thread(check_reachable, address)
        options: dict[str, Any] = {"log_to_driver": True, "logging_level": "warning"}
        if address == "local":
            options["include_dashboard"] = False
        else:
            options["address"] = address
        await asyncio.to_thread(lambda: ray.init(**options))
    except (OSError, RuntimeError, ValueError) as error:
        raise SixfoldError(
            f"no Ray cluster at {address}: {str(error)[:300]}", "ray start --head shows an address"
        ) from None
    target = RayTarget(ray, config)
    following = asyncio.create_task(target.follow())
    try:
        await target.ready()
        yield target
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await target.stop()
        await asyncio.to_thread(ray.shutdown)
