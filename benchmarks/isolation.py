"""Whether a tenant can tell, by time to first token, what another has asked: it must not.

Pairs over HTTP, in random order: a prompt that another tenant has just had computed, and one that
nobody has. AUC is the chance that the first is the faster one: 0.5 is blind guessing. For
comparison the same with one tenant, who does see his own hits. Not here: the salt (serving).
"""

import argparse
import random
import sys
import time

import httpx

import servers
from recording import save
from sixfold.core.record import Measure
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from tables import render

KEYS = ("tenant-a", "tenant-b")


def first_token(client: httpx.Client, key: str, ids: list[int]) -> float:
    """Seconds to the answer of one token."""
    body = {"prompt": ids, "max_tokens": 1, "temperature": 0}
    began = time.perf_counter()
    answer = client.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    answer.raise_for_status()
    return time.perf_counter() - began


def auc(known: list[float], fresh: list[float]) -> float:
    """Chance that one of `known` is smaller than one of `fresh`, ties halved."""
    ranked = sorted([(t, 0) for t in known] + [(t, 1) for t in fresh])
    before = wins = 0.0
    for _, is_fresh in ranked:
        if is_fresh:
            wins += before
        else:
            before += 1
    return wins / (len(known) * len(fresh))


def pairs(
    client: httpx.Client, asker: str, victim: str, count: int, length: int
) -> tuple[list[float], list[float]]:
    """Times of prompts that the victim has asked, and of fresh ones."""
    rng = random.Random(3)
    known: list[float] = []
    fresh: list[float] = []
    for _ in range(count):
        secret, other = ([rng.randrange(1000, 40000) for _ in range(length)] for _ in range(2))
        first_token(client, victim, secret)
        order = [(secret, known), (other, fresh)]
        rng.shuffle(order)
        for ids, times in order:
            times.append(first_token(client, asker, ids))
    return known, fresh


def main() -> int:
    """Measure, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--length", type=int, default=96, help="tokens of a prompt")
    parser.add_argument("--record", action="store_true", help="write docs/results/isolation.json")
    a = parser.parse_args()
    flags: dict[str, Scalar] = {"max_num_seqs": 4, "kv_cache_memory_mb": 1024}
    env = {"SIXFOLD_API_KEY": ",".join(KEYS)}
    spec = EngineSpec(engine="sixfold", model=a.model, flags=flags, env=env)
    rows = {}
    with servers.serving(spec) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for name, asker, count in (("another tenant's", KEYS[1], a.pairs),
                                   ("one's own", KEYS[0], max(50, a.pairs // 10))):  # fmt: skip
            known, fresh = pairs(client, asker, KEYS[0], count, a.length)
            rows[f"{name} prompts"] = {
                "AUC": Measure(values=[auc(known, fresh)], unit=""),
                "TTFT of what was asked": Measure(values=[1e3 * sum(known) / count], unit="ms"),
                "TTFT of what was not": Measure(values=[1e3 * sum(fresh) / count], unit="ms"),
                "pairs": Measure(values=[float(count)], unit=""),
            }
    print(render(rows))
    if a.record:
        save("isolation", "Telling another tenant's prompts by time to first token",
             {"model": a.model, "prompt": a.length}, rows)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
