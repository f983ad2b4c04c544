"""Workloads by name: what parses, to which types, and errors that help."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sixfold.core.errors import ConfigError
from sixfold.instrument.workloads.content import Content, Length, fixed
from sixfold.instrument.workloads.presets import PRESETS, describe, keys_of, parse_workload
from sixfold.instrument.workloads.synthetic import ChatConfig, TreeConfig
from sixfold.instrument.workloads.traces import TraceConfig


def test_values_have_the_types_of_their_keys():
    chat = parse_workload("chat:turns=4-6, system=300,text=true,think=1.5,user=60~0.5")
    assert chat.config == ChatConfig(
        turns=Length("uniform", 4, 6),
        system=300,
        think=1.5,
        user=Length("lognormal", 60, 0.5),
        content=Content(text=True),
    )
    tree = parse_workload("shared-prefix:lengths=64+32,share=0.5")
    assert tree.config == TreeConfig(lengths=(64, 32), share=0.5)
    trace = parse_workload("trace:file=a=b.jsonl,speed=2,max-input=9")
    assert trace.config == TraceConfig(file="a=b.jsonl", speed=2.0, max_input=9)


@pytest.mark.parametrize("name", PRESETS)
def test_each_default_can_be_written_and_parses_to_itself(name):
    kind = PRESETS[name].config
    keys = keys_of(kind) | ({"file": "x"} if "file" in keys_of(kind) else {})
    written = parse_workload(f"{name}:" + ",".join(f"{k}={v}" for k, v in keys.items()))
    assert written == parse_workload(f"{name}:file=x" if "file" in keys else name)
    assert all(key in describe() for key in keys) and f"{name}: " in describe()


def test_a_named_workload_builds_by_seed(tmp_path):
    workload = parse_workload("random:count=3,input=8,output=4")
    assert workload.config.input == fixed(8)
    assert workload.build(1) == workload.build(1) != workload.build(2)
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "a"}')
    assert parse_workload(f"jsonl:file={path}").build(0)[0].turns[0].text == "a"


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("chta", "'chta'", "did you mean chat?"),
        ("chat:sytem=4", "'sytem'", "did you mean system?"),
        ("chat:content=4", "'content'", "known: count"),
        ("jsonl:file=x,low=3", "'low'", "known: file"),
        ("chat:qqqq=4", "'qqqq'", "known: count"),
        ("chat:turns", "not key=value", "key=value"),
        ("chat:system=1,system=2", "twice", "once"),
        ("chat:system=x", "chat: system=x", ""),
        ("chat:system=-1", ">= 0", ""),
        ("chat:turns=x", "chat: turns: not a length", "512"),
        ("chat:text=maybe", "text=maybe", ""),
        ("chat:think=inf", "think", ""),
        ("trace", "needs file", "file="),
        ("trace:file=x,format=azur", "format=azur", ""),
        ("random:low=9,high=9", "no token id", "high"),
        ("", "unknown workload", "known"),
    ],
)
def test_mistakes_are_named(spec, message, hint):
    with pytest.raises(ConfigError) as caught:
        parse_workload(spec)
    assert message in caught.value.message and hint in caught.value.hint


PARTS = st.sampled_from([*PRESETS, ":", ",", "=", "file", "turns", "lengths", "1e999", "-", "~"])


@given(st.lists(PARTS | st.text(max_size=5)).map("".join))
def test_any_text_parses_or_is_the_users_error(spec):
    try:
        parse_workload(spec)
    except ConfigError as error:
        assert error.message
