"""Trials on real servers of a tiny model: shared servers, failures as points, stable ids."""

from pathlib import Path

import msgspec
import pytest

from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job
from sixfold.instrument.tuner.runner import PlannedRun, Runner, strategies_on
from sixfold.instrument.workloads.presets import parse_workload

TINY = Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf"
SPEC = EngineSpec(
    engine="sixfold",
    model=str(TINY),
    flags={"max_num_seqs": 4, "num_kv_blocks": 64, "max_model_len": 256},
)


def job(concurrency: int = 2) -> Job:
    return Job(
        target=Target(url="http://127.0.0.1:1", extra={"temperature": 0, "ignore_eos": True}),
        workload=parse_workload("random:count=6,input=40,output=4,low=3,high=100"),
        load=concurrency,
    )


def trial(**flags: object) -> PlannedRun:
    return PlannedRun(study="s", spec=msgspec.structs.replace(SPEC, flags=SPEC.flags | flags))


def test_points_share_a_server_and_it_forgets_their_prompts(tmp_path):
    with Runner(tmp_path, lambda text: None, None) as runner:
        first = runner.run(trial(), job(1))
        second = runner.run(trial(), job(2))
        # The same prompts again: a cache that was not reset would have them.
        again = runner.run(msgspec.structs.replace(trial(), repeat=1), job(2))
        assert runner.starts == 1
        other = runner.run(trial(enable_prefix_caching=False), job(2))
        assert runner.starts == 2
    for point in (first, second, again, other):
        assert point.status == "ok" and point.values["error_rate"] == 0
        assert point.values.get("cached_rate", 0.0) == 0.0
    assert len({p.id for p in (first, second, again, other)}) == 4
    assert second.key == again.key != other.key
    assert "prefix caching" in first.strategies and "prefix caching" not in other.strategies
    assert "--max-num-seqs 4" in first.command and first.engine_version


def test_a_server_that_does_not_start_is_a_point(tmp_path):
    with Runner(tmp_path, lambda text: None, None) as runner:
        point = runner.run(trial(no_such_flag=1), job())
        assert (point.status, point.values) == ("did_not_start", {})
        assert "no-such-flag" in point.reason
        assert runner.run(trial(), job()).status == "ok"


def test_ids_tell_what_makes_a_run():
    base = trial()
    same = PlannedRun(
        study="s",
        spec=msgspec.structs.replace(SPEC, flags=dict(reversed(SPEC.flags.items())), port=99),
    )
    assert base.id(job()) == same.id(job())
    ids = {base.id(job()), base.id(job(3)), trial(batching="static").id(job())}
    ids |= {
        msgspec.structs.replace(base, **{k: v}).id(job())
        for k, v in (("repeat", 1), ("study", "t"))
    }
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("engine", "flags", "on", "off"),
    [
        ("sixfold", {}, "prefix caching", "static batching"),
        ("sixfold", {"batching": "static"}, "static batching", "continuous batching"),
        ("sixfold", {"enable-prefix-caching": False}, "continuous batching", "prefix caching"),
        ("llamacpp", {"no_cache_prompt": True}, "continuous batching", "prefix caching"),
        ("vllm", {"no_enable_prefix_caching": True}, "PagedAttention", "prefix caching"),
    ],
)
def test_strategies_are_read_from_flags(engine, flags, on, off):
    found = strategies_on(engine, flags)
    assert on in found and off not in found
