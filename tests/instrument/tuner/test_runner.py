"""Trials on real servers of a tiny model: shared servers, failures as points, stable ids."""

import asyncio
import signal
from pathlib import Path

import msgspec
import pytest

from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job
from sixfold.instrument.store.store import Store
from sixfold.instrument.tuner import runner
from sixfold.instrument.tuner.runner import PlannedRun, Runner, interruptible, strategies_on
from sixfold.instrument.tuner.space import Scalar
from sixfold.instrument.tuner.trial import grid_search
from sixfold.instrument.tuner.tune import Study, tune
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
    with Runner(tmp_path, lambda text: None, None) as own:
        first = own.run(trial(), job(1))
        second = own.run(trial(), job(2))
        # The same prompts again: a cache that was not reset would have them.
        again = own.run(msgspec.structs.replace(trial(), repeat=1), job(2))
        assert own.starts == 1
        other = own.run(trial(enable_prefix_caching=False), job(2))
        assert own.starts == 2
    for point in (first, second, again, other):
        assert point.status == "ok" and point.values["error_rate"] == 0
        assert point.values.get("cached_rate", 0.0) == 0.0
    assert len({p.id for p in (first, second, again, other)}) == 4
    assert second.key == again.key != other.key
    assert "prefix caching" in first.strategies and "prefix caching" not in other.strategies
    assert "--max-num-seqs 4" in first.command and first.engine_version


def test_a_server_that_does_not_start_is_a_point(tmp_path):
    with Runner(tmp_path, lambda text: None, None) as own:
        point = own.run(trial(no_such_flag=1), job())
        assert (point.status, point.values) == ("did_not_start", {})
        assert "no-such-flag" in point.reason
        assert own.run(trial(), job()).status == "ok"


def test_a_server_that_refuses_every_request_is_a_point_and_a_study_goes_on(tmp_path):
    """Prompts of 40 tokens do not fit into 32: the server starts, and serves none of them."""
    with Runner(tmp_path, lambda text: None, None) as own:
        point = own.run(trial(max_model_len=32), job())
        assert (point.status, point.values) == ("failed", {}) and "answered 400" in point.reason
        assert point.config["max_model_len"] == 32 and point.engine_version
        assert own.run(trial(), job()).status == "ok"
    study = Study(name="s", spec=SPEC, job=job(), objective="output_throughput", noise_runs=1)
    lengths: list[dict[str, Scalar]] = [{"max_model_len": n} for n in (32, 256)]
    with Store(tmp_path / "s.db") as store, Runner(tmp_path, lambda text: None, None) as own:
        search = grid_search(lengths, repeats=1)
        found = tune(study, lambda noise: search, store, own, lambda point, spent: None)
    assert found.winner is not None and found.configurations == 2


@pytest.mark.parametrize("swallows", [True, False])
def test_an_interrupt_is_no_answer_of_the_server(swallows):
    async def work():
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            if not swallows:
                raise

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            asyncio.run(work())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


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


def test_ids_tell_machines_and_our_own_versions(monkeypatch):
    foreign = PlannedRun(study="s", spec=msgspec.structs.replace(SPEC, executable="venv"))
    before = trial().id(job()), foreign.id(job())
    monkeypatch.setattr(runner, "__version__", "99.0")
    upgraded = trial().id(job()), foreign.id(job())
    assert before[0] != upgraded[0] and before[1] == upgraded[1]
    monkeypatch.setattr(runner, "hardware", lambda: "another x9")
    moved = trial().id(job()), foreign.id(job())
    assert not set(moved) & {*before, *upgraded}


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
