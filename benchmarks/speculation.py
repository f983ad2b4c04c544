"""Speculative decoding on against off, in process: time per token, by source, text and batch.

All sources go through the same prompts, with the same requests at once, step by step in turn; each
round's time per token is held against that of two engines without drafts.
Outputs must be equal. Where texts repeat themselves or their prompts, drafts should pay; on random
tokens they should cost nothing. Not here: sampling quality (nothing changes), servers.
"""

import argparse
import math
import pydoc_data.topics
import random
import sys
import time
from dataclasses import dataclass
from statistics import mean, median, stdev

from recording import save
from sixfold.core.config import EngineConfig
from sixfold.core.record import Measure
from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.engine import LLMEngine
from tables import render

SOURCES = ("off", "ngram", "suffix", "self", "auto")
AGAIN = "off again"
"""A second engine without drafts: what differs between two engines that do the same."""
FORMS = ("Explain {} to a child.", "What is {}?", "Why does {} matter?", "Write a poem on {}.",
         "Give me five facts about {}.", "How did {} come about?")  # fmt: skip
THINGS = ("rain", "bread", "inflation", "the moon", "a bicycle", "gravity", "coffee", "chess",
          "the tides", "a vaccine", "glass", "the printing press", "jazz", "a hash table", "sleep",
          "the Roman empire", "photosynthesis", "a rainbow", "democracy", "cheese")  # fmt: skip


@dataclass(frozen=True)
class Text:
    """What is asked, and how answers are sampled. `ends`: where the model says so."""

    name: str
    temperature: float = 0.0
    ends: bool = False


TEXTS = (
    Text("edit"), Text("chat"), Text("chat, sampled", temperature=0.8),
    Text("random tokens", temperature=1.5),
)  # fmt: skip


def paragraphs(count: int, seed: int) -> list[str]:
    """Of Python's documentation, some 100 to 200 words each."""
    topics = sorted(pydoc_data.topics.topics)
    found = []
    for name in random.Random(seed).sample(topics, len(topics)):
        for part in pydoc_data.topics.topics[name].split("\n\n"):
            words = part.split()
            if 60 <= len(words) <= 140:
                found.append(" ".join(words))
    return found[:count]


def prompts(engine: LLMEngine, text: Text, count: int, seed: int) -> list[list[int]]:
    """Token ids of `count` requests."""
    rng = random.Random(seed)
    if text.name == "random tokens":
        return [[rng.randrange(1000, 40000) for _ in range(100)] for _ in range(count)]
    if text.name == "edit":
        ask = "Copy this text and correct nothing but its typing errors:\n\n"
        asked = [ask + paragraph for paragraph in paragraphs(count, seed)]
    else:
        # None comes twice: an answer that was given before would be drafted whole.
        every = [form.format(thing) for form in FORMS for thing in THINGS]
        random.Random(0).shuffle(every)
        places = range(seed * count, (seed + 1) * count)
        asked = [
            every[i % len(every)] + (f" Give answer {i // len(every)}." if i >= len(every) else "")
            for i in places
        ]
    tokenizer = engine.tokenizer
    return [
        tokenizer.encode(
            tokenizer.apply_chat_template([{"role": "user", "content": one}]),
            add_special_tokens=False,
        )
        for one in asked
    ]


class Racer:
    """An engine on its way through a list of requests, with a clock of its own."""

    def __init__(self, engine: LLMEngine, text: Text, some: list[list[int]], at_once: int) -> None:
        self._engine = engine
        self._text = text
        self._waiting = list(enumerate(some))
        self._at_once = at_once
        self._live = 0
        self._clock = 0.0
        self._times: list[list[float]] = [[] for _ in some]
        self.outputs: list[list[int]] = [[] for _ in some]
        engine.reset_prefix_cache()

    def step(self, output: int) -> bool:
        """One step of the engine; False at the end."""
        while self._waiting and self._live < self._at_once:
            number, ids = self._waiting.pop(0)
            # Two requests with one seed might even say the same.
            params = SamplingParams(temperature=self._text.temperature, seed=number + sum(ids),
                                    max_tokens=output, ignore_eos=True)  # fmt: skip
            self._engine.add_request(
                EngineRequest(request_id=str(number), prompt_token_ids=ids, params=params,
                              arrival_time=time.monotonic())
            )  # fmt: skip
            self._live += 1
        if not self._engine.has_unfinished():
            return False
        began = time.perf_counter()
        deltas = self._engine.step()
        self._clock += time.perf_counter() - began
        for delta in deltas:
            number = int(delta.request_id)
            self.outputs[number] += delta.token_ids
            self._times[number] += [self._clock] * len(delta.token_ids)
            self._live -= delta.finish_reason is not None
        return True

    def per_token(self) -> list[float]:
        """Each request's time per token after the first."""
        return [(t[-1] - t[0]) / (len(t) - 1) for t in self._times]


def race(
    engines: dict[str, LLMEngine], text: Text, some: list[list[int]], at_once: int, output: int
) -> dict[str, Racer]:
    """All engines through the same requests, step by step in turn: what slows the machine down for
    a moment slows all of them down."""
    racers = {name: Racer(engine, text, some, at_once) for name, engine in engines.items()}
    going = list(racers.values())
    while going:
        going = [racer for racer in going if racer.step(output)]
        going = going[1:] + going[:1]
    return racers


def compare(a: argparse.Namespace) -> dict[str, dict[str, Measure]]:
    """A row for each text, batch and source."""
    engines = {
        source: LLMEngine(
            EngineConfig(
                model=a.model,
                dtype=a.dtype,
                speculative="off" if source == AGAIN else source,
                max_num_seqs=64,
                num_speculative_tokens=a.most,
                kv_cache_memory_mb=1024,
            )
        )
        for source in dict.fromkeys(("off", *a.sources, AGAIN))
    }
    rows: dict[str, dict[str, Measure]] = {}
    for text in TEXTS:
        if a.only in text.name:
            for turn, at_once in enumerate(a.at_once):
                rows |= measure(engines, text, at_once, a, turn * a.rounds)
    return rows


def measure(
    engines: dict[str, LLMEngine], text: Text, at_once: int, a: argparse.Namespace, before: int
) -> dict[str, dict[str, Measure]]:
    """All rounds of one text with so many requests at once.

    `before`: rounds that there were. No request comes again: its answer would be drafted whole.
    """
    ratios: dict[str, list[float]] = {source: [] for source in engines}
    single: dict[str, list[float]] = {source: [] for source in engines}
    drafted, kept = dict.fromkeys(engines, 0), dict.fromkeys(engines, 0)
    for number in range(a.rounds):
        some = prompts(engines["off"], text, max(a.requests, at_once), before + number)
        start = {source: engine.stats() for source, engine in engines.items()}
        racers = race(engines, text, some, at_once, a.output)
        taken = {source: racer.per_token() for source, racer in racers.items()}
        for source, engine in engines.items():
            after, before_ = engine.stats(), start[source]
            drafted[source] += after.num_draft_tokens - before_.num_draft_tokens
            kept[source] += after.num_accepted_tokens - before_.num_accepted_tokens
        without = [mean(pair) for pair in zip(taken["off"], taken[AGAIN], strict=True)]
        for source in engines:
            same = racers[source].outputs == racers["off"].outputs
            assert same, f"{source} changes what is said"
            ratios[source].append(median(without) / median(taken[source]))
            single[source] += [a / b for a, b in zip(without, taken[source], strict=True)]
    rows = {}
    for source in engines:
        speed = Measure(values=ratios[source], unit="of off")
        rows[f"{text.name}, {at_once} at once: {source}"] = {
            "speed": speed,
            "at least (95 %)": Measure(values=[at_least(single[source])], unit="of off"),
            "accepted": Measure(values=[100 * kept[source] / max(drafted[source], 1)], unit="%"),
            "drafted": Measure(values=[float(drafted[source])], unit="tokens"),
        }
        said = f"{speed.median:.2f} (spread {speed.spread:.0%})"
        counts = f"{kept[source]} of {drafted[source]} kept"
        print(f"{text.name}, {at_once} at once: {source} {said}, {counts}", flush=True)
    return rows


def at_least(ratios: list[float]) -> float:
    """The lower limit, at 95 %, of the mean gain: of the logarithms, request by request."""
    logs = [math.log(ratio) for ratio in ratios]
    if len(logs) < 2:
        return 0.0
    return math.exp(mean(logs) - 1.645 * stdev(logs) / math.sqrt(len(logs)))


def main() -> int:
    """Compare, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: speculation.py --only edit --sources ngram --at-once 1 --rounds 3",
    )  # fmt: skip
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--sources", nargs="*", default=list(SOURCES))
    parser.add_argument("--at-once", nargs="*", type=int, default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=4, help="of a round")
    parser.add_argument("--output", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--most", type=int, default=8, help="tokens per draft")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="TEXT", help="texts with this in the name")
    parser.add_argument("--record", action="store_true", help="write docs/results/speculation.json")
    a = parser.parse_args()
    rows = compare(a)
    print("\n" + render(rows))
    if a.record:
        about = {"model": a.model, "dtype": a.dtype, "requests": a.requests, "output": a.output,
                 "most drafted": a.most}  # fmt: skip
        save(
            "speculation",
            "Speculative decoding on against off",
            about,
            rows,
            "Speed: time per token without drafts over that with them, round by round.",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
