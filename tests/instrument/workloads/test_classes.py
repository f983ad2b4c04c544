"""Classes of requests: from a line, from a workload's key, in a mix."""

import json

import pytest

from sixfold.core.errors import ConfigError
from sixfold.instrument.workloads.presets import PRESETS, MixConfig, parse_workload


def classes(spec: str) -> list[str]:
    return [session.slo_class for session in parse_workload(spec).build(0)]


def test_lines_say_their_class_and_the_key_is_for_those_that_do_not(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a", "class": "chat"}, {"prompt": "b"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert classes(f"jsonl:file={path}") == ["chat", ""]
    assert classes(f"jsonl:file={path},class=batch") == ["chat", "batch"]


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"jsonl", "sharegpt", "trace"}))
def test_every_workload_takes_a_class(name):
    assert set(classes(f"{name}:count=2,class=mine")) == {"mine"}
    assert set(classes(f"{name}:count=2")) == {""}
    with pytest.raises(ConfigError, match="class=a/b"):
        parse_workload(f"{name}:class=a/b")
    with pytest.raises(ConfigError, match="twice"):
        parse_workload(f"{name}:class=a,class=b")


def test_a_mix_sends_all_parts_in_a_random_order():
    spec = "random:count=12,input=8,class=a; random:count=4,input=8,class=b"
    sent = classes(spec)
    assert sorted(sent) == ["a"] * 12 + ["b"] * 4 and sent != sorted(sent)
    workload = parse_workload(spec)
    prompts = {session.turns for session in workload.build(0)}
    assert len(prompts) == 16, "like parts send other prompts"
    assert workload.build(0) == workload.build(0) != workload.build(1)


def test_a_mix_grows_by_its_count():
    mix = parse_workload("random:count=12,class=a; chat:count=4,class=b").config
    assert isinstance(mix, MixConfig) and mix.count == 16
    twice = parse_workload("random:count=12,class=a; chat:count=4,class=b")
    from msgspec.structs import replace

    grown = replace(twice, config=replace(mix, count=32)).build(0)
    assert sorted(s.slo_class for s in grown) == ["a"] * 24 + ["b"] * 8
    with pytest.raises(ConfigError, match="unknown workload"):
        parse_workload("random;;chat")
