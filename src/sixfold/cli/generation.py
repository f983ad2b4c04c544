"""What `chat` and `complete` share: arguments, and a stream of text from here or a server."""

import argparse
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from sixfold.cli.remote import GenerationConfig, Remote
from sixfold.cli.settings import add_flags, build, read_toml, structs
from sixfold.core.errors import SixfoldError

if TYPE_CHECKING:
    from sixfold.core.config import EngineConfig


class Wanted(NamedTuple):
    """What was asked for on the command line, in the environment and in a file."""

    generation: GenerationConfig
    engine: "EngineConfig"


NOTE = """Every flag has an environment variable (--max-tokens: SIXFOLD_MAX_TOKENS) and a TOML key
(max_tokens), as those of `sixfold serve` have."""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Model or URL, how to sample, and the settings of an engine here."""
    p.add_argument("--model", default=argparse.SUPPRESS, help="to load here (smollm2-135m)")
    p.add_argument("--config", metavar="FILE", help="TOML file with any of these settings")
    add_flags(p, GenerationConfig, "answers")
    add_flags(p, structs()[0], "engine, without --url", leave_out=("seed",))


def read(namespace: argparse.Namespace) -> Wanted:
    """The settings, checked. Raises ConfigError."""
    flags = vars(namespace)
    toml = read_toml(flags["config"], (GenerationConfig,)) if flags["config"] else {}
    engine = {"model": "smollm2-135m", "max_num_seqs": 1} | toml
    return Wanted(build(GenerationConfig, flags, toml), build(structs()[0], flags, engine))


class Local:
    """An engine in this process."""

    def __init__(self, wanted: Wanted) -> None:
        from sixfold.engine.engine import LLMEngine

        self._engine = LLMEngine(wanted.engine)
        self._asked = wanted.generation
        self._count = 0

    def chat(self, messages: list[dict[str, str]]) -> Iterator[str]:
        """Stream the answer to a conversation."""
        tokenizer = self._engine.tokenizer
        text = tokenizer.apply_chat_template(list(messages))
        yield from self._stream(tokenizer.encode(text, add_special_tokens=False))

    def complete(self, prompt: str) -> Iterator[str]:
        """Stream what follows `prompt`."""
        yield from self._stream(self._engine.tokenizer.encode(prompt))

    def _stream(self, tokens: list[int]) -> Iterator[str]:
        from sixfold.core.request import EngineRequest, SamplingParams

        a = self._asked
        self._count += 1
        name = f"{time.time_ns()}-{self._count}"
        params = SamplingParams(max_tokens=a.max_tokens, temperature=a.temperature, seed=a.seed)
        self._engine.add_request(
            EngineRequest(
                request_id=name,
                prompt_token_ids=tokens,
                params=params,
                arrival_time=time.monotonic(),
            )
        )
        try:
            while self._engine.has_unfinished():
                for delta in self._engine.step():
                    yield delta.text
                    if delta.finish_reason == "error":
                        raise SixfoldError(
                            f"the answer ended: {delta.error}",
                            "try another --dtype, or pull the model again",
                        )
        finally:
            self._engine.abort(name)


def connect(namespace: argparse.Namespace) -> Local | Remote:
    """Where the text comes from. Raises ConfigError for settings that can't be."""
    wanted = read(namespace)
    return Remote(wanted.generation) if wanted.generation.url else Local(wanted)
