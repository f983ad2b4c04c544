"""Prompt files: what becomes a session, and errors that name the line."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.workloads import lines
from sixfold.instrument.workloads.files import JsonlConfig, ShareGptConfig, jsonl, sharegpt

FAST = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CHAT = {
    "id": "a",
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "What is a cat?"},
        {"from": "gpt", "value": " ".join(["word"] * 10)},
        {"from": "human", "value": "And a dog?"},
        {"from": "gpt", "value": "Woof."},
        {"from": "human", "value": "Never answered"},
    ],
}
UNANSWERED = {"conversations": [{"from": "gpt", "value": "Hello."}]}


@pytest.fixture
def file(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "prompts"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def test_jsonl_takes_text_ids_and_messages(file):
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
    ]
    rows = [
        {"prompt": "Hello there", "max_tokens": 5},
        {"text": "Hello", "output_tokens": 6, "source": "mine"},
        {"prompt": [1, 2, 3]},
        {"messages": said},
    ]
    path = file("\ufeff" + "\n\n".join(map(json.dumps, rows)))
    plain, text, ids, chat = jsonl(JsonlConfig(file=path, output=9), 0)
    assert (plain.turns[0].text, plain.turns[0].max_tokens) == ("Hello there", 5)
    assert (text.turns[0].text, text.turns[0].max_tokens) == ("Hello", 6)
    assert (ids.turns[0].token_ids, ids.turns[0].max_tokens) == ((1, 2, 3), 9)
    assert chat.system == "Be brief." and [t.text for t in chat.turns] == ["One?", "Three?"]


def test_first_and_shuffle(file):
    path = file("\n".join(json.dumps({"prompt": f"p{i}"}) for i in range(20)))
    plain = jsonl(JsonlConfig(file=path, first=10, holdout=False), 0)
    one, two = (jsonl(JsonlConfig(file=path, first=10, shuffle=True), seed) for seed in (1, 2))
    plain_half = jsonl(JsonlConfig(file=path, first=10), 0)
    assert [s.turns[0].text for s in plain] == [f"p{i}" for i in range(10)]
    assert one != two and one == jsonl(JsonlConfig(file=path, first=10, shuffle=True), 1)
    assert sorted(s.turns[0].text for s in one) == sorted(s.turns[0].text for s in plain_half)


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "{}",
        '{"prompt": ""}',
        '{"prompt": "a", "text": "b"}',
        '{"prompt": [-1]}',
        '{"prompt": "a", "max_tokens": 0}',
        '{"prompt": "a", "max_tokens": "5"}',
        '{"prompt": "a", "class": "a/b"}',
        '{"messages": [{"role": "robot", "content": "x"}]}',
        '{"messages": [{"role": "system", "content": "x"}]}',
    ],
)
def test_a_wrong_line_is_named(file, row):
    path = file('{"prompt": "good"}\n\n' + row)
    with pytest.raises(ConfigError) as caught:
        jsonl(JsonlConfig(file=path), 0)
    assert caught.value.message.startswith(f"{path}:3: ")


def test_lines_are_bounded(file, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 100)
    with pytest.raises(ConfigError, match=":2: line of more than 100 bytes"):
        jsonl(JsonlConfig(file=file('{"prompt": "good"}\n' + "x" * 101)), 0)
    monkeypatch.setattr(lines, "MAX_FILE", 100)
    with pytest.raises(ConfigError, match="more than 100 bytes"):
        sharegpt(ShareGptConfig(file=file(b" " * 101)), 0)


def test_sharegpt_first_turn_or_whole_chats(file):
    path = file(gzip.compress(json.dumps([UNANSWERED, CHAT]).encode()))
    (single,) = sharegpt(ShareGptConfig(file=path), 0)
    assert single.system == "Be brief."
    assert [(t.text, t.max_tokens) for t in single.turns] == [("What is a cat?", 13)]
    (chat,) = sharegpt(ShareGptConfig(file=path, chats=True, max_output=4), 0)
    assert [t.text for t in chat.turns] == ["What is a cat?", "And a dog?"]
    assert [t.max_tokens for t in chat.turns] == [4, 1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[\n{"conversations": []},\n{"conversations": [{"from": "human"}]}\n]', 3),
        ('[\n{"conversations": []},\n{"conversations": []},\n\n{"conversations": 5}\n]', 5),
        ('[\n{"conversations": []}\n!]', 3),
        ('[\n{"conversations": []},\n\n', 4),
        ("{}", 1),
    ],
)
def test_a_wrong_conversation_is_named_by_its_line(file, text, line):
    path = file(text)
    with pytest.raises(ConfigError) as caught:
        sharegpt(ShareGptConfig(file=path), 0)
    assert caught.value.message.startswith(f"{path}:{line}: ")


def test_nothing_to_send_is_the_users_error(file):
    with pytest.raises(ConfigError, match="no prompts"):
        sharegpt(ShareGptConfig(file=file("[]")), 0)
    with pytest.raises(ConfigError, match="no prompts"):
        jsonl(JsonlConfig(file=file("\n\n")), 0)


PIECES = st.sampled_from(
    [b'{"prompt": "a"}', b"\n", b"[", b"]", json.dumps(CHAT).encode(), b'"\\ud800"', b"[" * 9999]
)


@FAST
@given(st.lists(PIECES | st.binary(max_size=20), max_size=6))
def test_any_bytes_give_sessions_or_the_users_error(file, pieces):
    path = file(b"".join(pieces))
    for read in (
        lambda: jsonl(JsonlConfig(file=path), 0),
        lambda: sharegpt(ShareGptConfig(file=path), 0),
    ):
        try:
            assert read()
        except ConfigError as error:
            assert error.message
