"""An engine for a job alone: the server's supervised engine process, without a server.

Not here: the process (server/supervisor.py), the job.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sixfold.core.config import EngineConfig
from sixfold.core.errors import EngineDeadError
from sixfold.serving.server.config import ServerConfig
from sixfold.serving.server.engine_client import EngineClient
from sixfold.serving.server.launch import EngineLaunch
from sixfold.serving.server.state import ServerState
from sixfold.serving.server.supervisor import Supervisor


@asynccontextmanager
async def running_engine(
    config: EngineConfig, launch: EngineLaunch | None = None, served_model_name: str = ""
) -> AsyncGenerator[ServerState, None]:
    """What routes would have of a server with this engine, once it is ready; ended at the end.

    Raises SixfoldError where it can't start. An engine that dies is started again.
    """
    launch = launch or EngineLaunch()
    server = ServerConfig(served_model_name=served_model_name)
    client = EngineClient()
    supervisor = Supervisor(config, server, launch.engine, client)
    supervising: asyncio.Task[None] | None = None
    try:
        supervisor.start()
        tokenizer = await asyncio.to_thread(launch.load_tokenizer, config)
        state = ServerState(config, server, client, tokenizer)
        supervising = asyncio.create_task(supervisor.run())
        await supervisor.first_ready.wait()
        if supervisor.failure is not None:
            raise supervisor.failure
        if not client.ready:
            raise EngineDeadError("the engine died at its start", "see its messages above")
        yield state
    finally:
        if supervising is not None:
            supervising.cancel()
            await asyncio.gather(supervising, return_exceptions=True)
        supervisor.close()
