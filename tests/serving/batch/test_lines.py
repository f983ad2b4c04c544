import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.serving.batch.lines import Bad, Defaults, Task, parse_line

NONE = Defaults()


def parsed(value, defaults=NONE):
    return parse_line(7, json.dumps(value).encode(), defaults)


def test_openai_lines_and_plain_ones_mean_the_same():
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    theirs, ours = parsed(line), parsed({"custom_id": "a", **body})
    assert isinstance(theirs, Task) and isinstance(ours, Task)
    assert (theirs.url, theirs.body, theirs.custom_id) == (ours.url, ours.body, "a")
    assert parsed("hello").body == {"prompt": "hello"}
    assert parsed({"input": "x"}).url == "/v1/embeddings"
    assert parsed({"prompt": "x"}).custom_id == "line-7"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"prompt": "\xff"}', "invalid_utf8"),
        (b"[1]", "invalid_request"),
        (b"7", "invalid_request"),
        (b'{"custom_id": 7, "prompt": "x"}', "invalid_request"),
        (b'{"custom_id": "", "prompt": "x"}', "invalid_request"),
        (b'{"nothing": 1}', "invalid_request"),
        (b'{"url": "/v1/completions", "body": []}', "invalid_request"),
        (b'{"url": "/v1/images", "body": {}}', "invalid_url"),
        (b'{"url": 3, "body": {}}', "invalid_url"),
        (b'{"url": "/v1/completions", "body": {}, "more": 1}', "invalid_request"),
        (b'{"url": "/v1/completions", "body": {}, "method": "GET"}', "invalid_method"),
        (b'{"prompt": "x", "stream": true}', "invalid_request"),
        (b"[" * 100_000, "invalid_json"),
    ],
)
def test_a_bad_line_says_what_is_wrong(data, code):
    bad = parse_line(7, data, NONE)
    assert isinstance(bad, Bad) and (bad.line, bad.code) == (7, code) and bad.message


@given(st.binary(max_size=80) | st.text(max_size=60).map(lambda t: json.dumps(t).encode()))
def test_no_line_raises(data):
    assert parse_line(1, data, NONE).line == 1


@given(
    st.dictionaries(
        st.sampled_from(["custom_id", "url", "body", "prompt", "messages", "input", "method"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=6,
        ),
    )
)
def test_no_fields_raise(fields):
    assert parsed(fields).line == 7


def test_defaults_fill_what_a_line_leaves_out():
    defaults = Defaults(fields={"temperature": 0, "max_tokens": 5})
    task = parsed({"prompt": "x", "max_tokens": 9}, defaults)
    assert task.body == {"prompt": "x", "max_tokens": 9, "temperature": 0}
    assert "max_tokens" not in parsed({"input": "x"}, defaults).body


def test_only_what_has_one_answer_is_recognised_again():
    same = parsed({"prompt": "x", "temperature": 0}), parsed({"temperature": 0, "prompt": "x"})
    assert same[0].digest == same[1].digest != b""
    assert parsed({"prompt": "y", "temperature": 0}).digest != same[0].digest
    assert parsed({"prompt": "x"}).digest == b""
    assert parsed({"prompt": "x", "seed": 1}).digest
    assert not parsed({"prompt": "x", "seed": 1}, Defaults(seeds=False)).digest
    assert parsed({"input": "x"}).digest


def test_a_batch_of_one_endpoint_refuses_others():
    bad = parsed({"prompt": "x"}, Defaults(url="/v1/embeddings"))
    assert isinstance(bad, Bad) and bad.code == "mismatched_url"
