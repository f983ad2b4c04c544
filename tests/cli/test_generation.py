"""`chat` and `complete`: what they print, and one clear line for whatever a server does to them."""

import json
import struct
from pathlib import Path

import pytest

from cli.one_answer import MODELS, answer, chunked, says
from sixfold.cli.main import main
from sixfold.engine.models.gguf import read_gguf

TINY = Path(__file__).parents[1] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
LISTED = answer(MODELS)


def event(**choice: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """(what was printed, the error) of a command that ends with exit code 1 and a hint."""
    assert main([*arguments]) == 1
    out, error = capsys.readouterr()
    first, hint, *rest = error.splitlines()
    assert first.startswith("error: ") and hint.startswith("hint: ") and rest == [], error
    return out, error


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://[::1", "http://", "ftp://a", "",
        "http://a b:1", "http://127.0.0.1:1/a b", "http://" + "a" * 70 + ":1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["chat", "complete"])
def test_what_is_no_url_is_said_so(capsys, verb, url):
    if url == "":
        url = "//"  # an empty one means: load the model here
    _, error = fails(capsys, verb, "hi", "--url", url)
    assert "is no URL to ask" in error and "http://HOST:PORT" in error


def test_a_key_that_http_cannot_send(capsys):
    with says(LISTED) as url:
        _, error = fails(capsys, "complete", "hi", "--url", url, "--api-key", "a\nb")
    assert "--api-key" in error


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 70_000, b""])
def test_a_port_without_http(capsys, said):
    with says(said) as url:
        _, error = fails(capsys, "complete", "hi", "--url", url)
    assert ("does not speak HTTP" if said else "no answer from") in error


@pytest.mark.parametrize(
    "body",
    [b"<html>hello</html>", b"", b"\xff", b"[]", b"{}", b'{"data": null}', b'{"data": [{}]}',
     b'{"data": [7]}', b"[" * 100_000],
)  # fmt: skip
def test_models_that_are_no_list_of_models(capsys, body):
    with says(answer(body)) as url:
        _, error = fails(capsys, "chat", "hi", "--url", url)
    assert "/v1/models is not OpenAI's" in error and "--url" in error


def test_a_server_without_a_model(capsys):
    with says(answer(b'{"data": []}')) as url:
        _, error = fails(capsys, "chat", "hi", "--url", url)
    assert "serves no model" in error


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("401 Unauthorized", b'{"error": {"message": "wrong\\n key"}}', "wrong key"),
        ("404 Not Found", b"no\nsuch\npage", "no such page"),
        ("503 Service Unavailable", b'{"error": "busy"}', "busy"),
        ("500 Internal Server Error", b"", "nothing more"),
    ],
)
def test_an_error_of_the_server_is_one_line(capsys, status, body, said):
    with says(LISTED, answer(body, status)) as url:
        _, error = fails(capsys, "complete", "hi", "--url", url)
    assert f"the server answered {status[:3]}: {said}\n" in error


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_that_dies_in_the_list_of_models(capsys, reset):
    with says(LISTED[:-5], reset=reset) as url:
        _, error = fails(capsys, "complete", "hi", "--url", url)
    assert "before its end" in error


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "stream",
    [
        chunked(event(text="once")),
        chunked(event(text="once"), event(text=" upon"))[:-20],
        b"HTTP/1.0 200 OK\r\n\r\n" + event(text="once"),
    ],
)
def test_a_server_that_dies_while_it_streams(capsys, stream, reset):
    """Also where the connection's end would pass for the answer's."""
    with says(LISTED, stream, reset=reset) as url:
        out, error = fails(capsys, "complete", "hi", "--url", url)
    assert "before its end" in error
    assert out in ("once\n", "\n") if reset else out == "once\n"


@pytest.mark.parametrize("data", [b"data: {]\n\n", b'data: {"choices": 7}\n\n', b"data: \xff\n\n"])
def test_a_stream_of_something_else(capsys, data):
    with says(LISTED, chunked(event(text="once"), data)) as url:
        out, error = fails(capsys, "complete", "hi", "--url", url)
    assert out == "once\n" and "the stream is not OpenAI's" in error


@pytest.mark.parametrize("said", [b'{"message": "the engine died"}', b'"the engine died"'])
def test_an_error_in_the_stream(capsys, said):
    data = b'data: {"error": ' + said + b"}\n\n"
    with says(LISTED, chunked(event(text="once"), data, b"data: [DONE]\n\n")) as url:
        out, error = fails(capsys, "complete", "hi", "--url", url)
    assert out == "once\n" and "the server ended the answer: the engine died" in error


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", event(text="!", finish_reason="stop")])
def test_a_stream_that_says_its_end_is_whole(capsys, end):
    """By [DONE], or by a reason: some servers leave the first out."""
    with says(LISTED, chunked(event(text="once"), end) + b"0\r\n\r\n") as url:
        assert main(["complete", "hi", "--url", url]) == 0
    assert capsys.readouterr().out == ("once\n" if b"DONE" in end else "once!\n")


def without_finite_logits(path: Path) -> str:
    """The tiny model with a last norm that makes every sum overflow."""
    norm = read_gguf(TINY).tensors["output_norm.weight"]
    data = bytearray(TINY.read_bytes())
    data[norm.offset : norm.offset + norm.size] = struct.pack("<f", 3e38) * (norm.size // 4)
    path.write_bytes(data)
    return str(path)


def test_a_model_without_finite_logits_is_an_error(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SIXFOLD_HOME", str(tmp_path))
    model = without_finite_logits(tmp_path / "huge.gguf")
    for verb in ("chat", "complete"):
        out, error = fails(capsys, verb, "hi", "--model", model)
        assert out == "\n" and "the model gave no finite logits" in error
