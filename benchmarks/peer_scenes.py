"""The scenes that engines are compared in: how many requests, at once, of how many tokens.

Plain Python, as another engine's interpreter reads it, too. Not here: running them (peers.py,
peer_openvino.py).
"""

import random
from typing import NamedTuple


class Scene(NamedTuple):
    """So many `requests`, `at_once` of them together; `shared`: tokens that all begin with."""

    requests: int
    at_once: int
    prompt: int
    output: int
    shared: int = 0


SCENES = {
    "A": Scene(5, 1, 128, 128),
    "B": Scene(3, 1, 2048, 1),
    "C": Scene(64, 64, 128, 128),
    "D16": Scene(64, 16, 256, 128),
    "D32": Scene(64, 32, 256, 128),
    "E": Scene(32, 32, 1088, 64, shared=1024),
    "F": Scene(8, 8, 4096, 192),
    "16 streams": Scene(16, 16, 128, 64),
    "prefill": Scene(2, 1, 1024, 1),
    "decode": Scene(1, 1, 32, 64),
}
WARM_UP = Scene(2, 2, 64, 8)
WHAT = {
    "A": "one stream, 128 in, 128 out: tok/s while decoding",
    "B": "a prompt of 2,048: tok/s of prefill",
    "C": "64 at once, 128 in, 128 out: output tok/s",
    "D16": "16 clients, 256 in, 128 out: output tok/s",
    "D32": "32 clients, 256 in, 128 out: output tok/s",
    "E": "32 at once that share 1,024 of 1,088 tokens, 64 out: seconds",
    "F": "8 at once of 4,096, 192 out, so that all decode for a while: tok/s then",
    "16 streams": "16 at once, 128 in, 64 out: tok/s while all decode",
    "prefill": "a prompt of 1,024: tok/s of prefill",
    "decode": "one stream: tok/s while decoding",
}


def prompts(scene: Scene, seed: int, suffixes: int = 0) -> list[list[int]]:
    """Random token ids; the same beginning, and other ends, for other `suffixes`."""
    rng = random.Random(seed)
    shared = [rng.randrange(1000, 40000) for _ in range(scene.shared)]
    rng = random.Random(f"{seed} {suffixes}")
    own = scene.prompt - scene.shared
    return [
        shared + [rng.randrange(1000, 40000) for _ in range(own)] for _ in range(scene.requests)
    ]


def summed_up(
    scene: Scene, began: float, sent: list[float], times: list[list[float]]
) -> dict[str, float]:
    """A run in numbers, from each request's start and the times of its tokens.

    `prefill`: prompt tokens per second of a request alone; `decoding`: tokens per second while
    all decode, from the last first token to the first last one.
    """
    first = sorted(t[0] - at for at, t in zip(sent, times, strict=True))
    took = max(t[-1] for t in times) - began
    found = {"took": took, "output": sum(map(len, times)) / took,
             "ttft p50": first[len(first) // 2], "ttft p99": first[-1]}  # fmt: skip
    if scene.at_once == 1:
        found["prefill"] = scene.prompt / first[len(first) // 2]
    begin, end = max(t[0] for t in times), min(t[-1] for t in times)
    if scene.output == 1:
        return found
    if scene.at_once == 1:
        gaps = sorted((t[-1] - t[0]) / (len(t) - 1) for t in times)
        found["decoding"] = 1 / gaps[len(gaps) // 2]
    elif scene.requests == scene.at_once and end > begin:
        found["decoding"] = sum(begin < at <= end for t in times for at in t) / (end - begin)
    return found
