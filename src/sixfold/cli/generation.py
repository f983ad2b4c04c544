"""What `chat` and `complete` share: arguments, and a stream of text from here or a server."""

import argparse
import time
from collections.abc import Iterator

from sixfold.cli.remote import Remote
from sixfold.core.errors import SixfoldError


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Model or URL, and how to sample."""
    p.add_argument("--model", default="smollm2-135m", help="model to load here (%(default)s)")
    p.add_argument("--url", help="use a running server instead, such as http://127.0.0.1:8000")
    p.add_argument("--api-key", default="", help="the server's key")
    p.add_argument("--dtype", default="auto", help="auto, bf16, int8 or int4 (%(default)s)")
    p.add_argument("--max-tokens", type=int, default=256, help="longest answer (%(default)s)")
    p.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (%(default)s)")
    p.add_argument("--seed", type=int, help="same seed, same answer")


class Local:
    """An engine in this process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from sixfold.core.config import EngineConfig
        from sixfold.engine.engine import LLMEngine

        config = EngineConfig(model=arguments.model, dtype=arguments.dtype, max_num_seqs=1)
        self._engine = LLMEngine(config)
        self._arguments = arguments
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

        a = self._arguments
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


def connect(arguments: argparse.Namespace) -> Local | Remote:
    """Where the text comes from."""
    return Remote(arguments) if arguments.url else Local(arguments)
