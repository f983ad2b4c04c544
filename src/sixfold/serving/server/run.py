"""The life of a server process: start the engine, listen, serve, drain, end.

The engine process is started first and the imports of the HTTP side follow meanwhile, since a
warm start is to take less than two seconds. Not here: any of the parts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sixfold.core.config import EngineConfig
from sixfold.core.errors import ConfigError
from sixfold.serving.server.config import ServerConfig
from sixfold.serving.server.engine_client import EngineClient
from sixfold.serving.server.launch import EngineLaunch
from sixfold.serving.server.supervisor import Supervisor

if TYPE_CHECKING:
    from sixfold.serving.server.listener import Listener
    from sixfold.serving.server.state import ServerState

LAST_WORDS_SECONDS = 1.0
EXIT_CUT = 1
"""Requests were still running when the drain's time was over."""


def serve(
    engine_config: EngineConfig, config: ServerConfig, launch: EngineLaunch | None = None
) -> int:
    """See config.run_server."""
    launch = launch or EngineLaunch()
    client = EngineClient()
    supervisor = Supervisor(engine_config, config, launch.engine, client)
    try:
        supervisor.start()
        # Both below take a while: the engine loads its model at the same time.
        from sixfold.serving.server.app import build_app
        from sixfold.serving.server.listener import Listener
        from sixfold.serving.server.state import ServerState

        state = ServerState(engine_config, config, client, launch.load_tokenizer(engine_config))
        listener = Listener(build_app(state), config)
        return asyncio.run(_serve(state, supervisor, listener))
    finally:
        supervisor.close()


async def _serve(state: ServerState, supervisor: Supervisor, listener: Listener) -> int:
    stop = asyncio.Event()
    _handle_signals(stop, supervisor)
    supervising = asyncio.create_task(_supervise(state, supervisor, stop))
    batching = asyncio.create_task(_run_batches(state))
    try:
        await listener.open()
    except OSError as error:
        raise ConfigError(
            f"can't listen on {state.config.host}:{state.config.port}: {error.strerror}",
            "choose another port, or 0 for a free one",
        ) from None
    try:
        await _first_of(supervisor.first_ready, stop)
        if supervisor.failure is None and not stop.is_set():
            print(_banner(state, listener.url), flush=True)
        await stop.wait()
        if supervisor.failure is not None:
            raise supervisor.failure
        drained = await _drain(state)
    finally:
        # Batches first: what they have in flight is not lost, but asked again by the next server.
        batching.cancel()
        await asyncio.gather(batching, return_exceptions=True)
        # Letting go of the engine ends what still runs with an explicit error; let that go out.
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)
        await state.wait_idle(LAST_WORDS_SECONDS)
        await listener.close()
    return 0 if drained else EXIT_CUT


async def _supervise(state: ServerState, supervisor: Supervisor, stop: asyncio.Event) -> None:
    """Run the supervisor; its end, for whatever reason, is the server's."""
    try:
        await supervisor.run()
    finally:
        state.draining = True
        stop.set()


async def _run_batches(state: ServerState) -> None:
    """Files and batches, behind everything else."""
    if not state.config.enable_batches:
        return
    from sixfold.engine.models.registry import sixfold_home
    from sixfold.serving.batch.local import backfilling
    from sixfold.serving.batch.service import BatchService

    given = state.config.batch_dir
    directory = Path(given).expanduser() if given else sixfold_home() / "batches"
    state.batches = BatchService(directory, state.model_name, backfilling(state))
    await state.batches.run()


async def _drain(state: ServerState) -> bool:
    """Take nothing new (the gate answers 503) and wait for what runs. False if it was cut."""
    state.draining = True
    print("sixfold: draining; a second signal ends at once", file=sys.stderr)
    return await state.wait_idle(state.config.drain_timeout)


def _handle_signals(stop: asyncio.Event, supervisor: Supervisor) -> None:
    def on_signal() -> None:
        if stop.is_set():
            supervisor.close()
            os._exit(EXIT_CUT)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _banner(state: ServerState, url: str) -> str:
    key = ' -H "Authorization: Bearer $API_KEY"' if state.config.api_keys else ""
    route, body = "completions", '"prompt": "Once upon a time"'
    if state.tokenizer.chat_template is not None:
        route, body = "chat/completions", '"messages": [{"role": "user", "content": "Hi!"}]'
    return (
        f"sixfold: {state.model_name} is ready at {url} · try: curl {url}/v1/{route}"
        f" -H 'Content-Type: application/json'{key} -d '{{{body}}}'"
    )
