"""Servers on loopback that answer with pages of metrics, as vLLM writes them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[str, int], tuple[int, bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """`answer(path, times that the path was asked)`."""
    counts: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            counts[self.path] = counts.get(self.path, 0) + 1
            status, body = answer(self.path, counts[self.path])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


def buckets(name: str, values: dict[float, float], count: float, total: float) -> list[str]:
    told = [f'{name}_bucket{{le="{bound:g}"}} {number:g}' for bound, number in values.items()]
    return [*told, f'{name}_bucket{{le="+Inf"}} {count:g}', f"{name}_count {count:g}",
            f"{name}_sum {total:g}"]  # fmt: skip


def page(
    n: int, *, waiting: float = 0, running: float = 4, kv: float = 0.2, late: bool = False
) -> bytes:
    """vLLM's metrics at the n-th reading: 10 requests a reading; late ones wait for 4 s."""
    done = 10.0 * n
    first, queue = (4.5, 4.0) if late else (0.3, 0.1)
    text = [
        f"vllm:num_requests_running {running}",
        f"vllm:num_requests_waiting {waiting}",
        f"vllm:kv_cache_usage_perc {kv}",
        f"vllm:prompt_tokens_total {100 * done}",
        f"vllm:generation_tokens_total {100 * done}",
        "vllm:num_preemptions_total 0",
        f"vllm:prefix_cache_queries_total {100 * done}",
        f"vllm:prefix_cache_hits_total {60 * done}",
        'vllm:cache_config_info{enable_prefix_caching="True",block_size="16"} 1',
    ]
    low = 0.0 if late else done
    text += buckets("vllm:time_to_first_token_seconds", {1: low, 5: done}, done, first * done)
    text += buckets("vllm:request_queue_time_seconds", {1: low, 5: done}, done, queue * done)
    text += buckets("vllm:e2e_request_latency_seconds", {2: low, 10: done}, done,
                    (first + 2) * done)  # fmt: skip
    text += buckets("vllm:inter_token_latency_seconds", {0.01: 0, 0.02: 98 * done, 0.03: 99 * done},
                    99 * done, 1.5 * done)  # fmt: skip
    return ("\n".join(text) + "\n").encode()


def metrics(make: Callable[[int], bytes]) -> Answer:
    return lambda path, n: (200, make(n)) if path == "/metrics" else (404, b"")
