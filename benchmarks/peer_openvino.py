"""OpenVINO GenAI's continuous batching in process: a JSON line for each scene.

Runs under an interpreter that has openvino_genai, and only under that: peers.py starts it.
usage: peer_openvino.py MODEL_DIR KV_PRECISION SEED SCENE...
"""

import json
import os
import sys
import time

import numpy as np
import openvino
import openvino_genai as genai

from peer_scenes import SCENES, WARM_UP, Scene, prompts, summed_up


def pipeline(model: str, kv: str) -> "genai.ContinuousBatchingPipeline":
    """With the settings that were best for it: chunked prefill, prefix caching, both cores."""
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 3
    scheduler.enable_prefix_caching = True
    scheduler.max_num_seqs = 64
    scheduler.max_num_batched_tokens = 2048
    scheduler.dynamic_split_fuse = True
    plugin = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": kv,
              "INFERENCE_NUM_THREADS": os.cpu_count() or 1}  # fmt: skip
    return genai.ContinuousBatchingPipeline(model, scheduler, "CPU", plugin, {})


def greedy(tokens: int) -> "genai.GenerationConfig":
    """Of exactly so many tokens."""
    config = genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = tokens
    config.ignore_eos = True
    config.do_sample = False
    return config


def run(pipe: "genai.ContinuousBatchingPipeline", scene: Scene, seed: int) -> dict[str, float]:
    """One scene: requests follow as earlier ones end."""
    waiting = prompts(scene, seed)
    began = time.perf_counter()
    running: list[tuple[object, float, list[float]]] = []
    ended: list[tuple[object, float, list[float]]] = []
    while waiting or running:
        while waiting and len(running) < scene.at_once:
            ids = openvino.Tensor(np.array([waiting.pop()], dtype=np.int64))
            number = seed * 1000 + len(running) + len(ended)
            at = time.perf_counter()
            running.append((pipe.add_request(number, ids, greedy(scene.output)), at, []))
        pipe.step()
        now = time.perf_counter()
        for handle, _, times in running:
            while handle.can_read():
                for output in handle.read().values():
                    times += [now] * len(output.generated_ids)
        ended += [entry for entry in running if len(entry[2]) >= scene.output]
        running = [entry for entry in running if len(entry[2]) < scene.output]
    return summed_up(scene, began, [at for _, at, _ in ended], [times for *_, times in ended])


def main() -> None:
    """Load, warm up, run."""
    model, kv, seed, *names = sys.argv[1:]
    began = time.perf_counter()
    pipe = pipeline(model, kv)
    ready = time.perf_counter() - began
    run(pipe, WARM_UP, 1)
    for number, name in enumerate(names):
        found = run(pipe, SCENES[name], int(seed) * 100 + number + 2)
        print(json.dumps({"scene": name, **found, "ready": ready}), flush=True)


if __name__ == "__main__":
    main()
