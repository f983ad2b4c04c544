"""Runs a server for a test: `python serve_fake.py ENGINE_JSON SERVER_JSON`.

In front of the fake engine, or of the real one where the model isn't one of the fake's.
"""

import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from fake_engine import FAKE_MODELS, FakeTokenizer

from sixfold.core.config import EngineConfig
from sixfold.core.errors import SixfoldError
from sixfold.serving.server.config import ServerConfig, run_server
from sixfold.serving.server.launch import EngineLaunch

if __name__ == "__main__":
    engine_config = msgspec.json.decode(sys.argv[1], type=EngineConfig)
    launch = None
    if engine_config.model in FAKE_MODELS:
        launch = EngineLaunch(
            engine="fake_engine:FakeEngine", load_tokenizer=lambda config: FakeTokenizer()
        )
    server_config = msgspec.json.decode(sys.argv[2], type=ServerConfig)
    try:
        sys.exit(run_server(engine_config, server_config, launch))
    except SixfoldError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
