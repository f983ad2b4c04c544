"""llama.cpp's prefix cache: what a reset drops, on a made-up server and, where it is, a real one.

Name a real one with SIXFOLD_LLAMACPP=PROGRAM and SIXFOLD_LLAMACPP_MODEL=FILE.gguf.
"""

import os
import sys
from pathlib import Path

import httpx
import pytest

from sixfold.instrument.backends import base
from sixfold.instrument.backends.spec import EngineSpec, Scalar

PATIENCE = 60.0
FAKE = """#!{python}
import http.server, json, os, sys
arguments = sys.argv[1:]
port = int(arguments[arguments.index("--port") + 1])
slots = arguments[arguments.index("--slot-save-path") + 1]
assert os.path.isdir(slots)
class Answer(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.send_response(200)
        body = json.dumps({{"total_slots": 3, "build_info": "b1"}}).encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = answer
    def do_POST(self):
        print("post", self.path, flush=True)
        self.answer()
    def log_message(self, *args):
        pass
print("slots", slots, flush=True)
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def test_it_gets_a_directory_for_its_slots_that_ends_with_it(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(0o755)
    flags: dict[str, Scalar] = {"cache_ram": 0}
    spec = EngineSpec(engine="llamacpp", model="m.gguf", executable=str(program), flags=flags)
    running = base.start(spec, log_dir=tmp_path, timeout=PATIENCE)
    try:
        assert running.scratch is not None and running.scratch.is_dir()
        assert "slot" not in running.command, "its path is of no use to anybody else"
        assert base.ask_version(running) == "b1"
        assert base.reset_cache(running)
    finally:
        base.stop(running)
    assert not running.scratch.exists()
    said = base.read_tail(running.log).splitlines()
    assert said[0] == f"slots {running.scratch}"
    assert said[1:] == [f"post /slots/{slot}?action=erase" for slot in range(3)]
    own = EngineSpec(
        engine="llamacpp", model="m.gguf", executable=str(program),
        flags={"slot-save-path": str(tmp_path)},
    )  # fmt: skip
    running = base.start(own, log_dir=tmp_path, timeout=PATIENCE)
    base.stop(running)
    assert running.scratch is None and tmp_path.is_dir()


PROMPTS = ("The quick brown fox ", "Some other words here ", "A third kind of text ")


@pytest.mark.parametrize(
    ("flags", "forgets"),
    [
        ({"parallel": 1, "cache_ram": 0}, True),
        ({"cache_ram": 0}, True),
        ({"parallel": 1, "cache_prompt": False}, True),
        ({"parallel": 1}, False),
    ],
)
def test_a_real_server_has_forgotten_when_it_says_so(
    tmp_path: Path, flags: dict[str, Scalar], forgets: bool
) -> None:
    program, model = (os.environ.get(f"SIXFOLD_LLAMACPP{n}", "") for n in ("", "_MODEL"))
    if not (program and model):
        pytest.skip("SIXFOLD_LLAMACPP and SIXFOLD_LLAMACPP_MODEL name none")
    spec = EngineSpec(
        engine="llamacpp", model=model, executable=program, flags=flags | {"ctx_size": 2048}
    )
    running = base.start(spec, log_dir=tmp_path, timeout=PATIENCE)
    try:

        def cached(text: str) -> int:
            body = {"prompt": text * 40, "max_tokens": 2, "temperature": 0}
            url = f"{running.url}/v1/completions"
            answer = httpx.post(url, json=body, timeout=PATIENCE).json()
            return int(answer["timings"]["cache_n"])

        for prompt in PROMPTS:
            cached(prompt)
        assert base.reset_cache(running) is forgets
        if forgets:
            assert [cached(prompt) for prompt in PROMPTS] == [0, 0, 0]
        else:
            assert cached(PROMPTS[0]) > 100, "kept in the host's memory: only a restart forgets"
    finally:
        base.stop(running)
