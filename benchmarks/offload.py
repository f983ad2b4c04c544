"""Offloaded blocks against computing again: time to first token of a prompt that was seen before.

disk: written by an engine that ended, read by a new one, with the page cache dropped first. memory:
evicted from a small arena, decompressed. And what a trace of requests would find: `--trace FILE`
replays the prompts' block ids (JSON Lines with hash_ids, as Mooncake has them) through tiers of
several sizes. Not here: servers (strategies.py).
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path

from recording import save
from sixfold.core.config import EngineConfig
from sixfold.core.record import Measure
from sixfold.engine.engine import LLMEngine
from sixfold.engine.offload.ram_tier import compress, restore
from steps import request
from tables import render

Row = dict[str, Measure]


def build(model: str, **options: object) -> LLMEngine:
    """One request at a time, in an arena that holds two long prompts."""
    settings = {"kv_cache_memory_mb": 160, "max_num_seqs": 2, **options}
    return LLMEngine(EngineConfig(model=model, **settings))  # type: ignore[arg-type]


def first_token(engine: LLMEngine, ids: list[int], name: str) -> tuple[float, int]:
    """Seconds to the first token, and how many tokens of the prompt were not computed."""
    began = time.perf_counter()
    engine.add_request(request(name, ids, 1))
    cached = 0
    while engine.has_unfinished():
        for delta in engine.step():
            cached = delta.timings.cached_tokens if delta.timings else cached
    return time.perf_counter() - began, cached


def prompts(count: int, length: int) -> list[list[int]]:
    """Random token ids."""
    rng = random.Random(7)
    return [[rng.randrange(1000, 40000) for _ in range(length)] for _ in range(count)]


def drop_pages(directory: Path) -> None:
    """What files hold is no longer in memory."""
    for path in directory.glob("*/*.kv"):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def from_disk(model: str, length: int, repeats: int, directory: Path) -> dict[str, Row]:
    """Each prompt computed, written, and read by the next engine."""
    some = prompts(repeats, length)
    writer = build(model, kv_offload_dir=str(directory))
    first_token(writer, some[0][:200], "warm-up")
    computed = [first_token(writer, ids, str(i))[0] for i, ids in enumerate(some)]
    writer.close()
    drop_pages(directory)
    reader = build(model, kv_offload_dir=str(directory))
    first_token(reader, prompts(1, 199)[0], "warm-up")
    loaded = []
    for i, ids in enumerate(some):
        seconds, cached = first_token(reader, ids, str(i))
        assert cached >= length - 33, f"{cached} tokens were loaded"
        loaded.append(seconds)
    reader.close()
    return compared(f"disk, {length:,} tokens", computed, loaded)


def from_memory(model: str, length: int, repeats: int) -> dict[str, Row]:
    """Each prompt computed, pushed out by the others, and decompressed."""
    some = prompts(repeats, length)
    engine = build(model, kv_offload_ram_mb=4096)
    first_token(engine, some[0][:200], "warm-up")
    ram = engine._offloader.ram  # type: ignore[union-attr]
    assert ram is not None
    computed: list[float] = []
    loaded: list[float] = []
    for times, name in ((computed, "a"), (loaded, "b")):
        for i, ids in enumerate(some):
            times.append(first_token(engine, ids, f"{name}{i}")[0])
            ram.flush()
    arena = engine._offloader._arenas[0]  # type: ignore[union-attr]
    block = arena[arena.shape[0] // 2].tobytes()
    packed = compress(block)
    assert restore(packed, len(block)) == block
    rows = compared(f"memory, {length:,} tokens", computed, loaded)
    share = Measure(values=[100 * len(packed) / len(block)], unit="%")
    rows[f"memory, {length:,} tokens: loaded"]["compressed to"] = share
    engine.close()
    return rows


def compared(name: str, computed: list[float], loaded: list[float]) -> dict[str, Row]:
    """Two lines of the table."""
    ratios = [a / b for a, b in zip(computed, loaded, strict=True)]
    return {
        f"{name}: {how}": {
            "TTFT": Measure(values=[1e3 * s for s in seconds], unit="ms"),
            "speed": Measure(values=gain, unit="of computing"),
        }
        for how, seconds, gain in (("computed", computed, [1.0]), ("loaded", loaded, ratios))
    }


def replayed(requests: Iterable[list[int]], capacity: int) -> float:
    """Share of prompt blocks found, with so many blocks kept and the least recently used gone."""
    kept: OrderedDict[int, None] = OrderedDict()
    found = asked = 0
    for blocks in requests:
        asked += len(blocks)
        hit = True
        for block in blocks:
            hit = hit and block in kept
            found += hit
            kept[block] = None
            kept.move_to_end(block)
        while len(kept) > capacity:
            kept.popitem(last=False)
    return found / max(asked, 1)


def read_trace(path: str) -> Iterator[list[int]]:
    """The block ids of each request."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["hash_ids"]


def main() -> int:
    """Measure, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--lengths", nargs="*", type=int, default=[128, 512, 2048])
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--trace", default="", help="JSON Lines with hash_ids")
    parser.add_argument("--blocks", nargs="*", type=int, default=[1000, 3000, 10000, 30000])
    parser.add_argument("--record", action="store_true", help="write docs/results/offload.json")
    a = parser.parse_args()
    if a.trace:
        requests = list(read_trace(a.trace))
        for capacity in a.blocks:
            print(f"{capacity:>8,} blocks: {replayed(requests, capacity):.1%} found")
        print(f"   no limit: {replayed(requests, 1 << 60):.1%} found")
        return 0
    rows: dict[str, Row] = {}
    for length in a.lengths:
        with tempfile.TemporaryDirectory(dir=".") as directory:
            rows |= from_disk(a.model, length, a.repeats, Path(directory))
        rows |= from_memory(a.model, length, a.repeats)
    print(render(rows))
    if a.record:
        save("offload", "Offloaded blocks against computing again", {"model": a.model}, rows,
             "The page cache was dropped before blocks were read from disk.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
