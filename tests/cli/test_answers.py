"""`chat` and `complete` where all is well: a tiny model in this process, and behind a real server.

Each prints what `LLM` gives for the same prompt, sampled the same way.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_harness import serving

from sixfold import LLM, SamplingParams
from sixfold.cli.main import main

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
DTYPE = ("--dtype", "f32")
GREEDY = ("--temperature", "0", "--max-tokens", "20")
KEY = "secret"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the packed weights are kept: one place for all of this module."""
    with pytest.MonkeyPatch.context() as patch:
        path = str(tmp_path_factory.mktemp("home"))
        patch.setenv("SIXFOLD_HOME", path)
        yield path


@pytest.fixture(scope="module")
def llm(home: str) -> LLM:
    return LLM(str(TINY), dtype="f32", kv_cache_memory_mb=32)


@pytest.fixture(scope="module")
def url(home: str) -> Iterator[str]:
    """A server that wants a key."""
    running = serving(str(TINY), *DTYPE, "--kv-cache-memory-mb", "32", "--api-key", KEY)
    yield running.url
    assert running.stop() == 0 and "Traceback" not in running.stderr()
    running.close()


@pytest.fixture(params=["here", "server", "server's /v1/"])
def source(request: pytest.FixtureRequest, home: str) -> list[str]:
    """The flags that say where the model is."""
    if request.param == "here":
        return ["--model", str(TINY), *DTYPE]
    address = request.getfixturevalue("url") + ("/v1/" if "/v1" in request.param else "")
    return ["--url", address, "--api-key", KEY]


def greedy(llm: LLM, messages: list[dict[str, Any]], max_tokens: int = 20) -> str:
    params = SamplingParams(temperature=0, max_tokens=max_tokens)
    return llm.chat(messages, params)[0].outputs[0].text


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    return out


def test_complete_prints_what_follows(source, llm, capsys, monkeypatch):
    params = SamplingParams(temperature=0, max_tokens=20)
    expected = llm.generate("Once upon a time", params)[0].outputs[0].text
    assert expected
    assert printed(capsys, "complete", "Once upon a time", *GREEDY, *source) == expected + "\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("Once upon a time"))
    assert printed(capsys, "complete", "-", *GREEDY, *source) == expected + "\n"


def test_a_seed_fixes_the_answer(source, llm, capsys):
    params = SamplingParams(temperature=1.2, seed=5, max_tokens=12)
    expected = llm.generate("abc", params)[0].outputs[0].text
    flags = ("--temperature", "1.2", "--max-tokens", "12")
    assert printed(capsys, "complete", "abc", *flags, "--seed", "5", *source) == expected + "\n"
    assert printed(capsys, "complete", "abc", *flags, "--seed", "6", *source) != expected + "\n"


def test_chat_answers_one_question(source, llm, capsys):
    messages = [{"role": "user", "content": "Hello there"}]
    plain = greedy(llm, messages)
    told = greedy(llm, [{"role": "system", "content": "Be brief."}, *messages])
    assert plain.strip() and plain != told
    assert printed(capsys, "chat", "Hello there", *GREEDY, *source) == plain + "\n"
    flags = ("--system", "Be brief.", *GREEDY)
    assert printed(capsys, "chat", "Hello there", *flags, *source) == told + "\n"


def test_a_conversation_remembers_its_turns(source, llm, capsys, monkeypatch):
    """Questions from a pipe, one a line; empty lines ask nothing."""
    messages, expected = [], ""
    for question in ("Hello there", "And then?"):
        messages.append({"role": "user", "content": question})
        answer = greedy(llm, messages)
        messages.append({"role": "assistant", "content": answer})
        expected += answer + "\n"
    assert answer != greedy(llm, [{"role": "user", "content": question}]), "the turns tell nothing"
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello there\n\nAnd then?\n"))
    assert printed(capsys, "chat", *GREEDY, *source) == expected


def test_a_wrong_key_is_told(url, capsys):
    assert main(["chat", "hi", "--url", url, "--api-key", "wrong"]) == 1
    error = capsys.readouterr().err
    assert "the server answered 401" in error and "--api-key" in error
