"""Telemetry from pages in the form of real ones, from /proc, and beside a thread that must never
fail a run. Not here: pages recorded from GPUs; DCGM's is written by hand, by its documentation.
"""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sixfold.core.metrics import RequestTrace
from sixfold.instrument.backends.processes import identify
from sixfold.instrument.backends.scrape import parse
from sixfold.instrument.loadgen.by_context import tpot_by_context
from sixfold.instrument.telemetry.engine import EngineProbe, family
from sixfold.instrument.telemetry.gpu import DcgmProbe, NvmlProbe, dcgm_reading
from sixfold.instrument.telemetry.host import (
    HostProbe,
    busy_seconds,
    listeners,
    listening_inodes,
    usage,
)
from sixfold.instrument.telemetry.sampler import Telemetry, canonical_values, probes_for

# Written by hand in the form that dcgm-exporter's documentation shows, since the machines that this
# is developed on have no GPU: no recording of a real exporter.
DCGM = """# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-a",device="nvidia0",modelName="X",Hostname="h"}} {use}
DCGM_FI_DEV_GPU_UTIL{{gpu="1",UUID="GPU-b",device="nvidia1",modelName="X",Hostname="h"}} 10
DCGM_FI_DEV_FB_USED{{gpu="0",UUID="GPU-a",device="nvidia0",modelName="X",Hostname="h"}} 1024
DCGM_FI_DEV_FB_FREE{{gpu="0",UUID="GPU-a",device="nvidia0",modelName="X",Hostname="h"}} 3072
DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="GPU-a",device="nvidia0",modelName="X",Hostname="h"}} 250.5
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="GPU-a",device="nvidia0"}} {energy}
"""
VLLM = """vllm:num_requests_running{{model_name="m"}} {running}
vllm:num_requests_waiting{{model_name="m"}} 1
vllm:kv_cache_usage_perc{{model_name="m"}} {kv}
vllm:num_preemptions_total{{model_name="m"}} {n}
vllm:prefix_cache_queries_total{{model_name="m"}} {n}00
vllm:prefix_cache_hits_total{{model_name="m"}} {n}0
vllm:spec_decode_num_draft_tokens_total{{model_name="m"}} {n}0
vllm:spec_decode_num_accepted_tokens_total{{model_name="m"}} {n}
"""


class Pages:
    """Serves one page after the other at any path, the last one again; none: 404."""

    def __init__(self, *pages: str) -> None:
        rest = list(pages)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = (rest.pop(0) if len(rest) > 1 else rest[0]) if rest else ""
                self.send_response(200 if page else 404)
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "Pages":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_the_engines_page_is_summed_up_under_canonical_names() -> None:
    pages = [(0, 0.0, 5), (4, 0.5, 6), (8, 0.9, 7), (0, 0.0, 9)]
    with Pages(*(VLLM.format(running=r, kv=k, n=n) for r, k, n in pages)) as server:
        probe = EngineProbe(f"{server.url}/v1")
        for _ in pages:
            probe.read()
    seen = probe.summary()
    assert probe.engine == "vllm" and not probe.notes
    assert seen["engine_requests_running_mean_count"] == 6
    assert seen["engine_requests_running_max_count"] == 8
    assert seen["engine_kv_cache_usage_max_fraction"] == 0.9
    assert seen["engine_preemptions_count"] == 4
    assert seen["engine_prefix_hit_fraction"] == pytest.approx(0.1)
    assert canonical_values(seen) == {
        "kv_usage": 0.9,
        "preemptions": 4,
        "acceptance_rate": pytest.approx(0.1),
    }


QUEUE = """vllm:num_requests_running 1
vllm:request_queue_time_seconds_bucket{{le="0.01"}} {a}
vllm:request_queue_time_seconds_bucket{{le="0.1"}} {b}
vllm:request_queue_time_seconds_bucket{{le="+Inf"}} {n}
vllm:request_queue_time_seconds_sum {sum}
vllm:request_queue_time_seconds_count {n}
"""


def seen_of(*pages: str) -> dict[str, float]:
    with Pages(*pages) as server:
        probe = EngineProbe(server.url)
        for _ in pages:
            probe.read()
    return probe.summary()


def test_queue_time_is_what_the_servers_histogram_gained() -> None:
    """50 observations up to 10 ms, 50 up to 100 ms, beside 1,000 slow ones from before."""
    before = QUEUE.format(a=0, b=0, n=1000, sum=5000.0)
    after = QUEUE.format(a=50, b=100, n=1100, sum=5002.0)
    values = canonical_values(seen_of(before, before, after))
    assert values == {
        "queue:mean": pytest.approx(0.02),
        "queue:p50": pytest.approx(0.01),
        "queue:p90": pytest.approx(0.01 + 0.09 * 40 / 50),
        "queue:p95": pytest.approx(0.01 + 0.09 * 45 / 50),
        "queue:p99": pytest.approx(0.01 + 0.09 * 49 / 50),
        "queue:p99.9": pytest.approx(0.01 + 0.09 * 49.9 / 50),
    }


def test_queue_time_beyond_the_last_bound_is_unknown() -> None:
    before = QUEUE.format(a=0, b=0, n=0, sum=0)
    values = canonical_values(seen_of(before, QUEUE.format(a=0, b=90, n=100, sum=30)))
    assert set(values) == {"queue:mean", "queue:p50", "queue:p90"}
    assert canonical_values(seen_of(before, before)) == {}, "nothing was observed"


def test_queue_time_survives_a_restart() -> None:
    pages = [QUEUE.format(a=n, b=n, n=n, sum=n * 0.005) for n in (1000, 1010, 5, 20)]
    assert seen_of(*pages)["engine_queue_mean_seconds"] == pytest.approx(0.005)


def test_token_gaps_and_the_pool_are_told_under_one_name() -> None:
    old = "vllm:time_per_output_token_seconds_{part} {{}}\nvllm:num_requests_running 1\n"
    for name in ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds"):
        page = old.replace("vllm:time_per_output_token_seconds", name)
        pages = [page.format(part="sum").format(n * 0.02) + f"{name}_count {n}" for n in (1, 11)]
        assert seen_of(*pages)["engine_itl_mean_seconds"] == pytest.approx(0.02)
    for labels, tokens in (
        ('kv_cache_size_tokens="619479",num_gpu_blocks="9",block_size="8"', 619479),
        ('num_gpu_blocks="573",block_size="16"', 573 * 16),
    ):
        seen = seen_of(f"vllm:num_requests_running 1\nvllm:cache_config_info{{{labels}}} 1\n")
        assert seen["engine_kv_pool_mean_tokens"] == tokens
    none = 'vllm:num_requests_running 1\nvllm:cache_config_info{num_gpu_blocks="None"} 1\n'
    assert "engine_kv_pool_mean_tokens" not in seen_of(none)


def test_what_a_server_turned_away_is_counted() -> None:
    page = 'vllm:num_requests_running 1\nvllm:admission_rejections_total{{reason="r"}} {}\n'
    assert seen_of(page.format(2), page.format(7))["engine_rejections_count"] == 5


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("vllm:num_requests_running 1", "vllm"),
        ("vllm:num_requests_running 1\nsixfold:engine_restarts_total 0", "sixfold"),
        ("sglang:num_running_reqs 1", "sglang"),
        ("llamacpp:requests_processing 1", "llamacpp"),
    ],
)
def test_prefixes_tell_the_engine(line: str, name: str) -> None:
    found = family(parse(line.encode()))
    assert found is not None and found[0] == name


def test_what_is_not_there_is_noted() -> None:
    with Pages() as server:
        probe = EngineProbe(server.url)
        probe.read()
        assert "not found at" in probe.notes[0] and "--metrics" in probe.notes[0]
    probe = EngineProbe(server.url)
    probe.read()
    probe.read()
    assert len(probe.notes) == 1 and "does not answer" in probe.notes[0]
    assert probe.summary() == {}
    with Pages("python_info 1\n") as server:
        other = EngineProbe(server.url)
        other.read()
        other.read()
        assert len(other.notes) == 1 and other.summary() == {}


def test_dcgm_in_base_units() -> None:
    reading = dcgm_reading(parse(DCGM.format(use=50, energy=1000).encode()))
    assert reading["0"]["used"] == 1024 * 2**20 and reading["0"]["use"] == 0.5
    assert reading["1"] == {"use": pytest.approx(0.1)}
    with Pages(DCGM.format(use=50, energy=1000), DCGM.format(use=100, energy=6000)) as server:
        probe = DcgmProbe(f"{server.url}/metrics", expected=True)
        probe.read()
        probe.read()
    seen = probe.summary()
    assert seen["gpu0_use_mean_fraction"] == 0.75 and seen["gpu0_power_max_watts"] == 250.5
    assert seen["gpu0_energy_joules"] == 5 and seen["gpu_energy_joules"] == 5
    gone = DcgmProbe(server.url, expected=True)
    gone.read()
    assert gone.notes and gone.summary() == {}


def test_nvml_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_gpu: int) -> int:
        raise RuntimeError("not supported")

    fake = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda _gpu: SimpleNamespace(gpu=40),
        nvmlDeviceGetMemoryInfo=lambda _gpu: SimpleNamespace(used=10, free=20),
        nvmlDeviceGetPowerUsage=lambda _gpu: 70_000,
        nvmlDeviceGetTotalEnergyConsumption=lacking,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    probe = NvmlProbe()
    probe.read()
    seen = probe.summary()
    assert probe.found and seen["gpu0_power_mean_watts"] == 70
    assert seen["gpu0_use_mean_fraction"] == 0.4 and "gpu_energy_joules" not in seen


def test_proc_in_its_own_words() -> None:
    table = (
        "  sl  local_address rem_address   st tx rx tr tm retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F40 00000000:0000 0A 0:0 00:0 0 1000 0 777 1\n"
        "   1: 0100007F:1F40 0100007F:9999 01 0:0 00:0 0 1000 0 778 1\n"
    )
    assert listening_inodes(table, 8000) == {"777"} and not listening_inodes(table, 8001)
    ticks = os.sysconf("SC_CLK_TCK")
    assert busy_seconds("cpu  1 2 3 400 50 6 7 8 0 0\n") == pytest.approx(27 / ticks)


@pytest.fixture
def child() -> Iterator[tuple[int, int]]:
    """Pid and port of a process that listens, and computes."""
    code = (
        "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True)\nwhile True: pass"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_the_engine_is_found_by_its_port(child: tuple[int, int]) -> None:
    pid, port = child
    own = identify(pid)
    assert own is not None and listeners(port) == [own]
    probe = HostProbe(port)
    probe.read()
    end = time.monotonic() + 30
    before = usage(own)
    assert before is not None
    while (now := usage(own)) is not None and now[0] < before[0] + 0.1:
        assert time.monotonic() < end
        time.sleep(0.05)
    probe.read()
    seen = probe.summary()
    assert not probe.notes
    assert seen["engine_cpu_cores"] > 0 and seen["engine_rss_max_bytes"] > 1e6
    assert seen["foreign_cpu_cores"] >= 0 and seen["engine_processes_count"] == 1


def test_a_server_within_the_client_has_no_cpu_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        probe = HostProbe(s.getsockname()[1])
        probe.read()
        probe.read()
    assert "client's process" in probe.notes[0]
    assert "engine_cpu_cores" not in probe.summary()


class Broken:
    """A probe that fails."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def read(self) -> None:
        raise RuntimeError("gone")

    def summary(self) -> dict[str, float]:
        return {}


def test_nothing_that_fails_ends_a_run() -> None:
    with Pages(VLLM.format(running=1, kv=0.1, n=1)) as server:
        beside = Telemetry([Broken(), *probes_for(server.url, local=True)], period=0.02)
        with beside:
            time.sleep(0.2)
    seen = beside.summary()
    assert any("gone" in note for note in seen["notes"])
    assert seen["engine_scrapes_count"] >= 2 and seen["client_cpu_cores"] >= 0


def test_gaps_fall_into_the_bin_of_their_context() -> None:
    times = tuple(0.1 * n for n in range(4))
    trace = RequestTrace(arrival=0.0, token_times=times, end=1.0, num_prompt_tokens=510)
    long = RequestTrace(arrival=0.0, token_times=(0, 2.0), end=2.0, num_prompt_tokens=40_000)
    bad = RequestTrace(arrival=0.0, token_times=(0, 9.0), end=9.0, ok=False)
    assert tpot_by_context([trace, long, bad]) == {
        "0-511": {"mean_seconds": pytest.approx(0.1), "count": 1.0},
        "512-1023": {"mean_seconds": pytest.approx(0.1), "count": 2.0},
        "32768+": {"mean_seconds": 2.0, "count": 1.0},
    }
