"""A real Ray cluster on this machine: two nodes, one of them killed in the middle of a job."""

import asyncio
import json
from pathlib import Path

import pytest
from job_harness import job_at, rows, write_lines

from sixfold.core.config import EngineConfig
from sixfold.core.errors import SixfoldError
from sixfold.serving.batch.cluster import ray_target
from sixfold.serving.batch.job import finish, open_job
from sixfold.serving.batch.runner import Options, answer_lines

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

TINY = str(Path(__file__).parents[2] / "golden" / "tiny_gguf" / "tiny-llama.gguf")
CONFIG = EngineConfig(model=TINY, kv_cache_memory_mb=16, max_num_seqs=4, num_threads=1)
LINES = 1200


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield made
    ray.shutdown()
    made.shutdown()


async def run(job, address: str, when_committed) -> None:
    ledger = open_job(job)
    try:
        async with ray_target(address, CONFIG) as target:
            async with asyncio.timeout(120):
                while len(target.nodes()) < 2:
                    await asyncio.sleep(0.1)
            await answer_lines(job, ledger, target, Options(), when_committed(target))
        finish(job, ledger)
    finally:
        ledger.close()


def test_a_lost_node_costs_only_what_it_had_in_flight(tmp_path, cluster):
    second = cluster.add_node(num_cpus=1)
    asked = [
        {"custom_id": f"{i}", "prompt": f"number {i}", "max_tokens": 6, "temperature": 0}
        for i in range(LINES)
    ]
    job = job_at(write_lines(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl")
    lost = []

    def when_committed(target):
        def committed(counts, offset):
            if counts.done >= LINES // 8 and not lost:
                lost.append(counts.done)
                cluster.remove_node(second, allow_graceful=False)

        return committed

    asyncio.run(run(job, cluster.address, when_committed))
    assert lost and lost[0] < LINES, "no node was lost in the middle of the job"
    found = rows(job.output)
    assert sorted(row["custom_id"] for row in found) == sorted(item["custom_id"] for item in asked)
    assert not job.errors.exists()
    assert all(json.dumps(row["response"]["body"]["usage"]) for row in found)


def test_nodes_that_can_not_run_the_model_are_a_clear_error(cluster):
    async def fails() -> None:
        async with ray_target(cluster.address, EngineConfig(model="/no/such/model")):
            pass

    with pytest.raises(SixfoldError, match="no node of the cluster can run"):
        asyncio.run(fails())


def test_no_cluster_is_a_clear_error():
    async def fails() -> None:
        async with ray_target("127.0.0.1:1", CONFIG):
            pass

    with pytest.raises(SixfoldError, match="no Ray cluster"):
        asyncio.run(fails())
