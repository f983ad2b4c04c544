"""sixfold beside llama.cpp, vLLM and OpenVINO on the same weights: rounds in turn, all cores.

Servers get the same HTTP load from the instrument's client (random token ids, greedy, exact
lengths); what has no server of its own runs in process, and ours is then in process, too. Every
run is a line of docs/results/peers-NAME.jsonl, so that a run that was cut goes on where it was.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

import servers
from peer_scenes import SCENES, WARM_UP, WHAT, Scene, prompts, summed_up
from recording import RESULTS, ROOT, lines_of, save
from sixfold.core.config import EngineConfig
from sixfold.core.record import Measure
from sixfold.engine.engine import LLMEngine
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.loadgen.run import Limits, run_load
from steps import request
from tables import render

MAIN = {"A": "decoding", "B": "prefill", "C": "output", "D16": "output", "D32": "output",
        "E": "took", "F": "decoding", "16 streams": "decoding", "prefill": "prefill",
        "decode": "decoding"}  # fmt: skip
"""What a scene is judged by."""
UNITS = {"took": "s", "output": "tok/s", "ttft p50": "s", "ttft p99": "s", "prefill": "tok/s",
         "decoding": "tok/s", "warm": "s", "ready": "s", "memory": "MB"}  # fmt: skip
SLOTS = 64

Found = dict[str, float]


class Run(msgspec.Struct, frozen=True):
    """A line of the record."""

    who: str
    scene: str
    round: int
    values: Found


@dataclass(frozen=True)
class Entrant:
    """One engine in one precision, and what it is compared in. `run` yields a scene's numbers."""

    who: str
    scenes: tuple[str, ...]
    run: Callable[[tuple[str, ...], int], Iterator[tuple[str, Found]]]


# -- over HTTP -------------------------------------------------------------------------------------


def over_http(spec: EngineSpec, model: str = "") -> Callable[..., Iterator[tuple[str, Found]]]:
    """A server that is started for each round."""

    def run(scenes: tuple[str, ...], seed: int) -> Iterator[tuple[str, Found]]:
        with servers.serving(spec) as server:
            target = Target(url=server.url, model=model, timeout=900.0,
                            extra={"temperature": 0, "ignore_eos": True})  # fmt: skip
            sent(target, WARM_UP, 1, 0)
            for number, name in enumerate(scenes):
                scene, own = SCENES[name], seed * 100 + number + 2
                found = sent(target, scene, own, 0)
                if scene.shared:
                    found["warm"] = sent(target, scene, own, 1)["took"]
                memory = resident_mb(server.pids)
                yield name, found | {"ready": server.seconds, "memory": memory}

    return run


def sent(target: Target, scene: Scene, seed: int, suffixes: int) -> Found:
    """One scene over HTTP. Raises RuntimeError unless every answer has its exact length."""
    sessions = [Session(turns=(Turn(token_ids=tuple(ids), max_tokens=scene.output),))
                for ids in prompts(scene, seed, suffixes)]  # fmt: skip
    limits = Limits(seconds=900.0, drain=900.0)
    outcomes = run_load(target, sessions, scene.at_once, limits=limits).outcomes
    wrong = [o for o in outcomes if o.error or o.num_output_tokens != scene.output]
    if wrong or len(outcomes) != scene.requests:
        raise RuntimeError(f"{len(wrong)} answers failed or have another length: {wrong[:1]}")
    traces = [o.trace for o in outcomes]
    times = [list(trace.token_times) for trace in traces]
    return summed_up(scene, min(t.arrival for t in traces), [t.arrival for t in traces], times)


def resident_mb(pids: tuple[int, ...]) -> float:
    """Of a server's processes, what they share counted once."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e3


# -- in process ------------------------------------------------------------------------------------


def in_process(config: EngineConfig) -> Callable[..., Iterator[tuple[str, Found]]]:
    """Our engine, in this process."""

    def run(scenes: tuple[str, ...], seed: int) -> Iterator[tuple[str, Found]]:
        began = time.perf_counter()
        engine = LLMEngine(config)
        ready = time.perf_counter() - began
        stepped(engine, WARM_UP, 1)
        for number, name in enumerate(scenes):
            found = stepped(engine, SCENES[name], seed * 100 + number + 2)
            yield name, found | {"ready": ready}

    return run


def stepped(engine: LLMEngine, scene: Scene, seed: int) -> Found:
    """One scene, requests following as earlier ones end."""
    waiting = prompts(scene, seed)
    began = time.perf_counter()
    sent_at: dict[str, float] = {}
    times: dict[str, list[float]] = {}
    while waiting or engine.has_unfinished():
        while waiting and len(sent_at) - sum(len(t) >= scene.output for t in times.values()) < (
            scene.at_once
        ):
            name = f"{seed}-{len(sent_at)}"
            sent_at[name], times[name] = time.perf_counter(), []
            engine.add_request(request(name, waiting.pop(), scene.output))
        deltas = engine.step()
        now = time.perf_counter()
        for delta in deltas:
            times[delta.request_id] += [now] * len(delta.token_ids)
    return summed_up(scene, began, list(sent_at.values()), list(times.values()))


def openvino(python: str, model: str, kv: str) -> Callable[..., Iterator[tuple[str, Found]]]:
    """OpenVINO GenAI, in a process of its interpreter."""

    def run(scenes: tuple[str, ...], seed: int) -> Iterator[tuple[str, Found]]:
        script = ROOT / "benchmarks" / "peer_openvino.py"
        lines = output([python, str(script), model, kv, str(seed), *scenes]).splitlines()
        for line in lines:
            if line.startswith("{"):
                found = json.loads(line)
                yield found.pop("scene"), found

    return run


def llama_bench(binary: str, model: str) -> Callable[..., Iterator[tuple[str, Found]]]:
    """llama.cpp's own measurement: tokens out of one stream, or a prompt."""

    def run(scenes: tuple[str, ...], seed: int) -> Iterator[tuple[str, Found]]:
        for name in scenes:
            scene = SCENES[name]
            key = MAIN[name]
            asked = ["-p", "0", "-n", str(scene.output)] if key == "decoding" else [
                "-p", str(scene.prompt), "-n", "0"]  # fmt: skip
            threads = str(os.cpu_count() or 1)
            text = output([binary, "-m", model, "-t", threads, "-r", "1", "-o", "json", *asked])
            yield name, {key: json.loads(text)[0]["avg_ts"]}

    return run


def output(command: list[str]) -> str:
    """Of a program that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# -- who takes part --------------------------------------------------------------------------------

SERVED = ("A", "B", "C", "D16", "D32", "E", "F")
LARGE = ("decode", "prefill", "16 streams")


def entrants(a: argparse.Namespace) -> Iterator[Entrant]:
    """Those whose program was named, ours first."""
    for dtype in a.dtypes:
        yield from ours(a, dtype)
    scenes: tuple[str, ...] = ("decode", "prefill") if a.large else ("A",)
    for gguf in a.gguf:
        kind = Path(gguf).stem.rsplit("-", 1)[-1]
        bench, server = Path(a.llama) / "llama-bench", Path(a.llama) / "llama-server"
        yield Entrant(f"llama-bench {kind}", scenes, llama_bench(str(bench), gguf))
        if not a.large:
            spec = servers.llama_server(str(server), gguf, 1, 4096, os.cpu_count() or 1)
            yield Entrant(f"llama.cpp {kind}", ("A",), over_http(spec))
    if a.vllm:
        yield Entrant(
            "vLLM bf16", ("16 streams",) if a.large else SERVED, over_http(vllm(a), a.model)
        )
    for kind, model in (("bf16", a.openvino_bf16), ("int8", a.openvino_int8)):
        if model:
            yield Entrant(f"OpenVINO {kind}", ("B", "C", "F"), openvino(a.openvino, model, "u8"))


def ours(a: argparse.Namespace, dtype: str) -> Iterator[Entrant]:
    """Our server, and the engine in process."""
    flags: dict[str, Scalar] = {"dtype": dtype, "max_num_seqs": SLOTS, "kv_cache_memory_mb": 2048}
    inside = EngineConfig(model=a.model, dtype=dtype, max_num_seqs=SLOTS, kv_cache_memory_mb=2048,
                          enable_prefix_caching=True)  # fmt: skip
    if a.large:
        yield Entrant(f"sixfold in process {dtype}", LARGE, in_process(inside))
        return
    served = ("A",) if dtype == "int4" else SERVED
    yield Entrant(f"sixfold {dtype}", served, over_http(servers.sixfold(a.model, flags)))
    if dtype != "int4":
        small = flags | {"kv_cache_dtype": "int8"}
        spec = servers.sixfold(a.model, small)
        yield Entrant(f"sixfold {dtype}, int8 KV", ("B", "F"), over_http(spec))
    scenes = ("A",) if dtype == "int4" else ("A", "B", "C", "D32", "F")
    yield Entrant(f"sixfold in process {dtype}", scenes, in_process(inside))


def vllm(a: argparse.Namespace) -> EngineSpec:
    """On all cores, with 4 GB of cache, and its compiled code kept from round to round."""
    env = {"VLLM_CPU_KVCACHE_SPACE": "4", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
           "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}"}  # fmt: skip
    flags: dict[str, Scalar] = {"dtype": "bfloat16", "max_model_len": 8192, "max_num_seqs": SLOTS}
    return EngineSpec(engine="vllm", model=a.model, executable=a.vllm, flags=flags, env=env)


# -- running ---------------------------------------------------------------------------------------


def run_all(a: argparse.Namespace, path: Path) -> list[Run]:
    """What is missing of all rounds, appended as it comes."""
    runs = [msgspec.json.decode(line, type=Run) for line in lines_of(path)]
    have = {(run.who, run.scene, run.round) for run in runs}
    with path.open("ab") as file:
        for number in range(a.rounds):
            for entrant in entrants(a):
                scenes = tuple(s for s in entrant.scenes
                               if (entrant.who, s, number) not in have)  # fmt: skip
                if not scenes or a.only not in entrant.who:
                    continue
                for scene, values in entrant.run(scenes, number + 1):
                    run = Run(entrant.who, scene, number, values)
                    runs.append(run)
                    file.write(msgspec.json.encode(run) + b"\n")
                    file.flush()
                    key = MAIN[scene]
                    print(f"round {number + 1}/{a.rounds} {entrant.who}, {scene}: "
                          f"{values[key]:.4g} {UNITS[key]}", flush=True)  # fmt: skip
    return runs


def table(runs: list[Run]) -> dict[str, dict[str, Measure]]:
    """A row for each scene and entrant."""
    rows: dict[str, dict[str, Measure]] = {}
    for scene in SCENES:
        for who in dict.fromkeys(run.who for run in runs if run.scene == scene):
            some = [run.values for run in runs if run.scene == scene and run.who == who]
            keys = [key for key in UNITS if all(key in values for values in some)]
            rows[f"{scene}: {who}"] = {
                key: Measure(values=[values[key] for values in some], unit=UNITS[key])
                for key in keys
            }
    return rows


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: peers.py --model DIR --llama build/bin --gguf m-bf16.gguf m-Q8_0.gguf "
        "--vllm VENV --openvino VENV/bin/python --openvino-int8 OV_DIR --record",
    )  # fmt: skip
    parser.add_argument("--model", required=True, help="bf16 safetensors, a directory")
    parser.add_argument("--name", default="smollm2-135m", help="of the record")
    parser.add_argument("--large", action="store_true", help="the few scenes of a 1B model")
    parser.add_argument("--dtypes", nargs="*", default=["bf16", "int8", "int4"], help="of ours")
    parser.add_argument("--llama", default="", help="directory of llama-bench and llama-server")
    parser.add_argument("--gguf", nargs="*", default=[], help="the same weights, for llama.cpp")
    parser.add_argument("--vllm", default="", help="virtual environment of vLLM")
    parser.add_argument("--openvino", default="", help="interpreter that has openvino_genai")
    parser.add_argument("--openvino-bf16", default="", help="the same weights, for OpenVINO")
    parser.add_argument("--openvino-int8", default="", help="and in 8 bits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="TEXT", help="who has this in the name")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    parser.add_argument("--record", action="store_true", help="write docs/results/peers-NAME.json")
    return parser.parse_args()


def main() -> int:
    """Run, print, record."""
    a = parse()
    path = RESULTS / f"peers-{a.name}.jsonl"
    if a.fresh:
        path.unlink(missing_ok=True)
    results = table(run_all(a, path))
    print("\n" + render(results))
    if a.record:
        scenes = dict.fromkeys(row.split(":")[0] for row in results)
        about = {"model": a.name, "rounds": a.rounds, "slots": SLOTS}
        about |= {scene: WHAT[scene] for scene in scenes}
        save(f"peers-{a.name}", f"Engines beside each other, {a.name}", about, results,
             "Servers share the cores with the client that loads them. took: E in a cold cache; "
             "warm: other ends behind the same beginning.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
