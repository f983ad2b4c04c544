"""Made-up histories of engines, as samples, and a server of Prometheus' API that tells them.

The server knows the few forms of queries that advisor/promql.py writes, no PromQL.
"""

import bisect
import http.server
import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

START = 1_700_000_400
"""Since the epoch; a multiple of ten minutes."""
INTERVAL = 15
BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, math.inf)
TOKEN_BOUNDS = (256, 512, 1024, 2048, 4096, math.inf)
Series = dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, float]]]


class Story:
    """Samples of servers, every INTERVAL seconds from START on."""

    def __init__(self, seconds: int) -> None:
        self.series: Series = {}
        self.end = START + seconds

    def add(self, name: str, value: Callable[[int], float], **labels: str) -> None:
        """A series of values of time."""
        samples = [(float(t), value(t)) for t in range(START, self.end + 1, INTERVAL)]
        self.series[name, tuple(sorted(labels.items()))] = samples

    def count(self, name: str, rate: Callable[[int], float], **labels: str) -> None:
        """A counter that grows so much per second."""
        total = 1000.0
        samples = [(float(START), total)]
        for t in range(START + INTERVAL, self.end + 1, INTERVAL):
            total += rate(t) * INTERVAL
            samples.append((float(t), total))
        self.series[name, tuple(sorted(labels.items()))] = samples

    def observe(
        self,
        name: str,
        rate: Callable[[int], float],
        value: Callable[[int], float],
        bounds: tuple[float, ...] = BOUNDS,
        **labels: str,
    ) -> None:
        """A histogram: so many observations per second, all of that value."""
        self.count(f"{name}_count", rate, **labels)
        self.count(f"{name}_sum", lambda t: rate(t) * value(t), **labels)
        for bound in bounds:
            le = "+Inf" if bound == math.inf else str(bound)
            inside = lambda t, b=bound: rate(t) if value(t) <= b else 0.0  # noqa: E731
            self.count(f"{name}_bucket", inside, le=le, **labels)

    def of(self, instance: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
        """Names and samples of one server, to be changed in place."""
        for (name, labels), samples in self.series.items():
            if dict(labels)["instance"] == instance:
                yield name, samples

    def restart(self, instance: str, at: float) -> None:
        """All its counters begin anew."""
        for _, samples in self.of(instance):
            base = next((v for t, v in samples if t >= at), 0.0)
            if samples[0][1] >= 1000.0:
                samples[:] = [(t, v if t < at else v - base) for t, v in samples]

    def gap(self, instance: str, start: float, end: float) -> None:
        """It is not scraped."""
        for _, samples in self.of(instance):
            samples[:] = [(t, v) for t, v in samples if not start <= t < end]

    def grown(self, name: str, instance: str, start: float, end: float) -> float:
        """What was counted within that time; no restart in it."""
        for (own, labels), samples in self.series.items():
            if own == name and dict(labels)["instance"] == instance:
                known = dict(samples)
                return known[end] - known[start]
        raise KeyError(name)


PEAK = START + 2 * 3600
PEAK_SECONDS = 600


def busy(t: int) -> float:
    """Requests running: 20 in the peak, else 2 to 4."""
    return 20.0 if PEAK < t <= PEAK + PEAK_SECONDS else 3.0 + math.sin(t / 700)


def waiting(t: int) -> float:
    return 10.0 if PEAK < t <= PEAK + PEAK_SECONDS else 0.5 + 0.5 * math.sin(t / 700)


def context(t: int) -> float:
    return 1500.0 + 1000.0 * math.sin(t / 1500)


def vllm(story: Story, instance: str, part: float = 1.0, **more: str) -> None:
    """A server with vLLM's newer names, under `part` of the load."""
    labels = {"job": "vllm", "instance": instance, "model_name": "m", "engine": "0"} | more
    requests = lambda t: part * busy(t) / 5  # noqa: E731
    story.add("vllm:num_requests_running", lambda t: part * busy(t), **labels)
    story.add("vllm:num_requests_waiting", lambda t: part * waiting(t), **labels)
    story.add("vllm:kv_cache_usage_perc", lambda t: min(1.0, part * busy(t) / 21), **labels)
    story.count("vllm:generation_tokens_total", lambda t: 20 * part * busy(t), **labels)
    story.count("vllm:prompt_tokens_total", lambda t: requests(t) * (context(t) - 100), **labels)
    story.count("vllm:prefix_cache_queries_total", lambda t: 100 * requests(t), **labels)
    story.count("vllm:prefix_cache_hits_total", lambda t: 25 * requests(t), **labels)
    story.count("vllm:num_preemptions_total", lambda t: 0.1 if busy(t) > 10 else 0, **labels)
    story.observe(
        "vllm:time_to_first_token_seconds", requests, lambda t: 0.1 + 0.05 * waiting(t), **labels
    )
    story.observe(
        "vllm:request_time_per_output_token_seconds",
        requests,
        lambda t: 0.01 + 1e-5 * context(t),
        **labels,
    )
    for name, value in (("prompt", lambda t: context(t) - 100), ("generation", lambda t: 100.0)):
        story.observe(f"vllm:request_{name}_tokens", requests, value, TOKEN_BOUNDS, **labels)
    story.add(
        "vllm:cache_config_info",
        lambda t: 1.0,
        job="vllm",
        instance=instance,
        engine="0",
        block_size="16",
        num_gpu_blocks="1000",
        enable_prefix_caching="True",
    )


def open_metrics(story: Story) -> str:
    """For `promtool tsdb create-blocks-from openmetrics`: in the order of time."""
    lines = []
    for (name, labels), samples in story.series.items():
        inside = ",".join(f'{label}="{value}"' for label, value in labels)
        lines += [(t, f"{name}{{{inside}}} {value!r} {t:.0f}") for t, value in samples]
    lines.sort(key=lambda line: line[0])
    return "\n".join(text for _, text in lines).replace("nan", "NaN") + "\n# EOF\n"


PART = re.compile(
    r"label_replace\((\w+) by \(([\w, ]+)\) \((\w+)\(([\w:]+)(?:\{([^}]*)\})?\[(\d+)s\]\)\), "
    r'"sixfold_part", "([^"]+)", "", ""\)'
)
DENSITY = re.compile(r"max\(max_over_time\(count_over_time\(([\w:]+)[^\[]*\[600s\]\)\[(\d+)s:")
NAMED = re.compile(r'\{__name__=~"([^"]+)"[^}]*\}')


def over_time(function: str, samples: list[tuple[float, float]]) -> float | None:
    """A function of PromQL, without extrapolation."""
    values = [value for _, value in samples]
    if not values:
        return None
    falls = [(a, b) for a, b in pairwise(values) if b < a]
    if function == "increase":
        return values[-1] - values[0] + sum(a for a, _ in falls) if len(values) > 1 else None
    return {
        "avg_over_time": lambda: sum(values) / len(values),
        "count_over_time": lambda: float(len(values)),
        "resets": lambda: float(len(falls)),
        "min_over_time": lambda: min(values),
        "max_over_time": lambda: max(values),
    }[function]()


JOIN: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "avg": lambda values: sum(values) / len(values),
}


class Told:
    """The answers that a story gives."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._times = {key: [t for t, _ in samples] for key, samples in story.series.items()}

    def names(self, pattern: str) -> list[str]:
        found = {name for name, _ in self._story.series}
        return sorted(name for name in found if re.fullmatch(pattern, name))

    def within(self, key: tuple, start: float, end: float) -> list[tuple[float, float]]:
        times, samples = self._times[key], self._story.series[key]
        return samples[bisect.bisect_left(times, start) : bisect.bisect_right(times, end)]

    def rows(self, query: str, times: list[int]) -> Iterator[tuple[dict[str, str], list]]:
        """Label sets and pairs of time and value."""
        if density := DENSITY.match(query):
            most = max(
                len(self.within(key, t - 600, t))
                for key in self._story.series
                if key[0] == density[1]
                for t in range(START, times[0] + 1, 600)
            )
            yield {}, [(times[0], float(most))]
        elif named := NAMED.search(query):
            for key in self._story.series:
                back = 10**7 if "last_over_time" in query else 300
                if re.fullmatch(named[1], key[0]) and self.within(key, times[0] - back, times[0]):
                    yield {"__name__": key[0]} | dict(key[1]), [(times[0], 1.0)]
        for part in PART.finditer(query):
            yield from self._part(part, times)

    def _part(self, part: re.Match[str], times: list[int]) -> Iterator[tuple[dict, list]]:
        joined, by, function, name, inside, seconds, tag = part.groups()
        wanted = dict(re.findall(r'(\w+)="([^"]*)"', inside or ""))
        groups: dict[tuple, list[tuple]] = {}
        for key in self._story.series:
            labels = dict(key[1])
            if key[0] == name and all(labels.get(k) == v for k, v in wanted.items()):
                chosen = tuple((k, labels[k]) for k in by.split(", ") if k in labels)
                groups.setdefault(chosen, []).append(key)
        for labels, keys in groups.items():
            pairs = []
            for t in times:
                known = [over_time(function, self.within(k, t - int(seconds), t)) for k in keys]
                if values := [value for value in known if value is not None]:
                    pairs.append((t, JOIN[joined](values)))
            if pairs:
                yield dict(labels) | {"sixfold_part": tag}, pairs


def envelope(data: object) -> bytes:
    return json.dumps({"status": "success", "data": data}).encode()


class FakePrometheus:
    """Tells a story at any time up to its end. `mangle(path, parameters)` may answer instead."""

    def __init__(self, story: Story) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.mangle: Callable[[str, dict[str, str]], bytes | tuple[int, bytes] | None] = (
            lambda path, parameters: None
        )
        self._told, self._end = Told(story), story.end
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
                fake.asked.append((parts.path, parameters))
                fake.headers.append(dict(self.headers))
                answer = fake.mangle(parts.path, parameters) or fake.answer(parts.path, parameters)
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def answer(self, path: str, parameters: dict[str, str]) -> bytes:
        query = parameters.get("query", "")
        if path.endswith("/label/__name__/values"):
            found = NAMED.search(parameters.get("match[]", ""))
            return envelope(self._told.names(found[1] if found else ".*"))
        if query == "time()":
            return envelope({"resultType": "scalar", "result": [self._end, str(self._end)]})
        if path.endswith("/query"):
            rows = self._told.rows(query, [int(parameters["time"])])
            result = [{"metric": m, "value": [v[0][0], str(v[0][1])]} for m, v in rows]
            return envelope({"resultType": "vector", "result": result})
        first, last, step = (int(parameters[name]) for name in ("start", "end", "step"))
        rows = self._told.rows(query, list(range(first, last + 1, step)))
        result = [{"metric": m, "values": [[t, str(v)] for t, v in pairs]} for m, pairs in rows]
        return envelope({"resultType": "matrix", "result": result})

    def __enter__(self) -> "FakePrometheus":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
