"""Small results of other tools' forms, made up for the tests; the numbers are nobody's."""

import json
from typing import Any

Json = dict[str, Any]


def optimizer_run(concurrency: int, ttft_ms: float) -> Json:
    return {
        "config": {
            "client_args": {
                "max_concurrency": concurrency,
                "num_prompts": 200,
                "dataset_name": "random",
                "random_input_len": 1024,
                "random_output_len": 128,
            },
            "server_args": {"tp_size": 2, "chunked_prefill_size": 4096},
            "server_cmd_args": ["--tp-size=2"],
        },
        "results": {
            "backend": "vllm",
            "request_rate": None,
            "completed": 200,
            "request_throughput": 4.5,
            "input_throughput": 4608.0,
            "output_throughput": 576.0,
            "mean_ttft_ms": ttft_ms,
            "median_ttft_ms": ttft_ms - 10,
            "std_ttft_ms": 5.0,
            "p95_ttft_ms": ttft_ms + 100,
            "p99_e2e_latency_ms": 2500.0,
            "mean_tpot_ms": 12.5,
            "p95_itl_ms": 20.0,
            "concurrency": 7.9,
            "accept_length": None,
        },
        "cmd": "python3 -m sglang.launch_server --model-path org/model --tp-size=2 ",
        "constraints": [],
        "metadata": {
            "gpu_type": "H100",
            "gpu_count": 2,
            "model_tag": "org/model",
            "input_tokens": 1024,
            "output_tokens": 128,
        },
    }


def optimizer_sweep() -> Json:
    runs = [optimizer_run(8, 150.0), optimizer_run(16, 300.0)]
    about = {"gpu_type": "H100", "gpu_count": 2, "model_tag": "org/model", "total_tests": 2}
    return {"metadata": about, "best_configurations": {}, "test_results": runs}


def vllm_result() -> Json:
    return {
        "date": "20260305-101112",
        "endpoint_type": "openai",
        "backend": "openai",
        "label": None,
        "model_id": "org/model",
        "tokenizer_id": "org/model",
        "num_prompts": 100,
        "gpu": "L4",
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 32,
        "duration": 20.0,
        "completed": 95,
        "failed": 5,
        "total_input_tokens": 9500,
        "total_output_tokens": 19000,
        "request_throughput": 4.75,
        "request_goodput": None,
        "output_throughput": 950.0,
        "total_token_throughput": 1425.0,
        "max_output_tokens_per_s": 1200.0,
        "mean_ttft_ms": 250.0,
        "median_ttft_ms": 200.0,
        "std_ttft_ms": 30.0,
        "p99_ttft_ms": 900.0,
        "p99.9_ttft_ms": 950.0,
        "mean_tpot_ms": 25.0,
        "p99_itl_ms": 40.0,
        "mean_e2el_ms": 5000.0,
    }


def vllm_sweep_run(run: int) -> Json:
    override = {"_benchmark_name": "a", "max_num_seqs": 64, "enforce_eager": True}
    return vllm_result() | {"mean_ttft_ms": 250.0 + run, "run_number": run} | override


def sglang_line() -> Json:
    return {
        "tag": None,
        "backend": "sglang",
        "dataset_name": "random",
        "request_rate": float("inf"),
        "max_concurrency": 64,
        "sharegpt_output_len": None,
        "random_input_len": 512,
        "random_output_len": 64,
        "random_range_ratio": 0.5,
        "server_info": {"model_path": "org/model", "version": "0.5.5", "tp_size": 4, "x": {}},
        "duration": 10.0,
        "completed": 1000,
        "request_throughput": 100.0,
        "input_throughput": 51200.0,
        "output_throughput": 6400.0,
        "total_throughput": 57600.0,
        "mean_e2e_latency_ms": 640.0,
        "p99_e2e_latency_ms": 1280.0,
        "median_ttft_ms": 32.0,
        "p95_itl_ms": 16.0,
        "max_itl_ms": 64.0,
        "accept_length": 2.5,
    }


def guidellm_report() -> Json:
    def spread(mean: float, p95: float) -> Json:
        stats = {"p001": 1.0, "p50": 5.0, "p95": p95, "p999": 2 * p95}
        good = {"mean": mean, "median": 5.0, "std_dev": 1.0, "max": 3 * p95, "percentiles": stats}
        return {"successful": good, "errored": {"mean": 0.0}, "total": {"mean": 9e9}}

    metrics = {
        "request_totals": {"successful": 30, "incomplete": 4, "errored": 10, "total": 44},
        "requests_per_second": spread(3.0, 4.0),
        "request_latency": spread(2.5, 4.0),
        "time_to_first_token_ms": spread(125.0, 250.0),
        "time_per_output_token_ms": spread(33.0, 44.0),
        "inter_token_latency_ms": spread(25.0, 50.0),
        "output_tokens_per_second": spread(384.0, 500.0),
        "prompt_token_count": spread(256.0, 256.0),
        "output_token_count": spread(128.0, 128.0),
    }
    strategy = {"type_": "constant", "rate": 3.5, "max_concurrency": 512}
    one = {
        "type_": "generative_benchmark",
        "config": {"strategy": strategy, "backend": {"type_": "openai_http"}},
        "metrics": metrics,
        "start_time": 1772704800.5,
    }
    args = {"model": "org/model", "data": ["prompt_tokens=256,output_tokens=128"]}
    return {"metadata": {"version": 1}, "args": args, "benchmarks": [one]}


def aiperf_export() -> Json:
    return {
        "schema_version": "1.4",
        "aiperf_version": "0.13.0",
        "request_throughput": {"unit": "requests/sec", "avg": 9.5},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 2432.0},
        "goodput": {"unit": "requests/sec", "avg": 9.0},
        "request_latency": {"unit": "ms", "avg": 2400.0, "p50": 2300.0, "p99": 4800.0, "std": 1.0},
        "time_to_first_token": {"unit": "ms", "avg": 200.0, "p90": 300.0, "adj_p99": 7.0},
        "inter_token_latency": {"unit": "us", "avg": 8500.0},
        "request_count": {"unit": "requests", "avg": 95.0},
        "error_request_count": {"unit": "requests", "avg": 5.0},
        "input_sequence_length": {"unit": "tokens", "avg": 550.0},
        "output_sequence_length": {"unit": "tokens", "avg": 256.0},
        "start_time": "2026-03-05T10:00:00",
        "was_cancelled": False,
        "input_config": {
            "endpoint": {"model_names": ["org/model"]},
            "loadgen": {"concurrency": 24, "request_count": 100},
        },
        "telemetry_data": {
            "endpoints": {"e": {"gpus": {"0": {"gpu_name": "L40S"}, "1": {"gpu_name": "L40S"}}}}
        },
    }


def perf_report() -> Json:
    return {
        "load_summary": {
            "count": 80,
            "schedule_delay": {"mean": 0.001},
            "requested_rate": 8.0,
            "achieved_rate": 7.9,
        },
        "successes": {
            "count": 60,
            "latency": {
                "request_latency": {"mean": 1.5, "p99.9": 6.0, "median": 1.25},
                "normalized_time_per_output_token": {"mean": 0.5},
                "time_per_output_token": {"mean": 0.0125},
                "time_to_first_token": {"mean": 0.25, "p95": 0.5},
                "inter_token_latency": {"p0.1": 0.001, "p99": 0.03125},
            },
            "throughput": {
                "input_tokens_per_sec": 800.0,
                "output_tokens_per_sec": 640.0,
                "total_tokens_per_sec": 1440.0,
                "requests_per_sec": 6.0,
            },
            "prompt_len": {"mean": 133.5},
            "output_len": {"mean": 106.5},
            "slo_metrics": {"combined_slo": {"goodput_rate": 5.5}},
        },
        "failures": {"count": 20, "request_latency": None, "prompt_len": None},
    }


ALL: dict[str, Json] = {
    "llm-optimizer": optimizer_sweep(),
    "vllm bench": vllm_result(),
    "sglang.bench_serving": sglang_line(),
    "GuideLLM": guidellm_report(),
    "AIPerf": aiperf_export(),
    "inference-perf": perf_report(),
}


def lines(*documents: Json) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)
