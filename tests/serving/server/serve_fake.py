"""Runs a server in front of the fake engine: `python serve_fake.py ENGINE_JSON SERVER_JSON`."""

import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from fake_engine import FakeTokenizer
from sixfold.core.config import EngineConfig
from sixfold.core.errors import SixfoldError
from sixfold.serving.server.config import ServerConfig, run_server
from sixfold.serving.server.launch import EngineLaunch

if __name__ == "__main__":
    launch = EngineLaunch(
        engine="fake_engine:FakeEngine", load_tokenizer=lambda config: FakeTokenizer()
    )
    engine_config = msgspec.json.decode(sys.argv[1], type=EngineConfig)
    server_config = msgspec.json.decode(sys.argv[2], type=ServerConfig)
    try:
        sys.exit(run_server(engine_config, server_config, launch))
    except SixfoldError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
