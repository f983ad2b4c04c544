"""What `chat` and `complete` share: arguments, and streams of text from here or from a server."""

import argparse
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

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
        finally:
            self._engine.abort(name)


class Remote:
    """Any OpenAI-compatible server."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        url = urlsplit(arguments.url if "//" in arguments.url else f"http://{arguments.url}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise SixfoldError(f"{arguments.url} is no URL", "use http://HOST:PORT")
        self._url = url
        self._base = url.path.rstrip("/").removesuffix("/v1")

    def chat(self, messages: list[dict[str, str]]) -> Iterator[str]:
        """Stream the answer to a conversation."""
        for choice in self._post("/v1/chat/completions", {"messages": messages}):
            yield choice.get("delta", {}).get("content") or ""

    def complete(self, prompt: str) -> Iterator[str]:
        """Stream what follows `prompt`."""
        for choice in self._post("/v1/completions", {"prompt": prompt}):
            yield choice.get("text") or ""

    def _post(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        a = self._arguments
        body |= {"model": self._model(), "stream": True, "max_tokens": a.max_tokens,
                 "temperature": a.temperature, "seed": a.seed}  # fmt: skip
        response = self._request("POST", path, json.dumps(body))
        for line in response:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise SixfoldError(f"the server ended the answer: {event['error'].get('message')}")
            yield from event.get("choices", [])

    def _model(self) -> str:
        models = json.load(self._request("GET", "/v1/models"))["data"]
        return str(models[0]["id"])

    def _request(self, method: str, path: str, body: str | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._arguments.api_key:
            headers["Authorization"] = f"Bearer {self._arguments.api_key}"
        secure = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=600)
        try:
            connection.request(method, self._base + path, body, headers)
            response = connection.getresponse()
        except OSError as error:
            raise SixfoldError(
                f"no answer from {self._arguments.url}: {error}", "is the server running there?"
            ) from error
        if response.status != 200:
            text = response.read(2000).decode("utf-8", "replace")
            raise SixfoldError(f"the server answered {response.status}: {text}")
        return response


def connect(arguments: argparse.Namespace) -> Local | Remote:
    """Where the text comes from."""
    return Remote(arguments) if arguments.url else Local(arguments)
