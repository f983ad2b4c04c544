"""A scheduler under load on a clock of its own: steps take what a formula says. No engine runs.

Interactive requests arrive at random (Poisson), backfill never ends. Everything follows from the
seed, so that runs with and without backfill meet the same requests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from sixfold.core.metrics import percentile
from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.output import SchedulerOutput
from sixfold.engine.scheduler.scheduler import Scheduler

Seconds = Callable[[int, int], float]
"""(decode rows, prompt tokens) -> seconds of a step."""


@dataclass(frozen=True)
class Group:
    """A KV group whose layers see everything."""

    window: int | None = None


@dataclass(frozen=True)
class Load:
    """What arrives. Lengths in tokens are (least, most), even in between."""

    seconds: Seconds
    rate: float
    """Interactive requests per second."""
    count: int = 600
    prompt: tuple[int, int] = (32, 160)
    output: tuple[int, int] = (16, 112)
    backfill: int = 0
    """Backfill requests that are always in the system; of the same lengths."""
    slowdown: float = 0.1
    noise: float = 0.0
    """Standard deviation of a step's time, as a part of it; one in 200 takes thrice as long."""
    seed: int = 1


@dataclass
class Outcome:
    """Latencies of interactive requests behind the first third, and tokens of backfill, in s."""

    ttft: list[float] = field(default_factory=list)
    tpot: list[float] = field(default_factory=list)
    seconds: float = 0.0
    prompt_tokens: int = 0
    decode_tokens: int = 0
    interactive_seconds: float = 0.0
    longest_gap: float = 0.0

    def p95(self) -> tuple[float, float]:
        """Of TTFT and TPOT."""
        return percentile(self.ttft, 95), percentile(self.tpot, 95)


class Clockwork:
    """One run."""

    def __init__(self, load: Load, max_num_seqs: int = 32, budget: int = 256) -> None:
        self.load = load
        self.scheduler = Scheduler(
            SchedulerConfig(
                max_num_seqs=max_num_seqs, max_num_batched_tokens=budget, max_model_len=1024,
                interactive_slowdown=load.slowdown,
            ),
            KVCacheManager([Group()], [4096]),
        )  # fmt: skip
        self.outcome = Outcome()
        self.now = 0.0
        self._rng = Random(load.seed)
        self._noise = Random(load.seed + 1)
        self._fill = Random(load.seed + 2)
        self._arrivals = self._plan()
        self._first: dict[str, float] = {}
        self._arrived: dict[str, float] = {}
        self._tokens: dict[str, int] = {}
        self._made = 0

    def _plan(self) -> list[tuple[float, int, int]]:
        at, found = 0.0, []
        for _ in range(self.load.count):
            at += self._rng.expovariate(self.load.rate) if self.load.rate else 0.0
            prompt, output = (
                self._rng.randint(*self.load.prompt),
                self._rng.randint(*self.load.output),
            )
            found.append((at, prompt, output))
        return found

    def _add(self, arrival: float, prompt: int, output: int, backfill: bool) -> None:
        self._made += 1
        name = f"{'b' if backfill else 'i'}{self._made}"
        tokens = [self._made, *range(prompt - 1)]
        self.scheduler.add(
            EngineRequest(
                request_id=name, prompt_token_ids=tokens, arrival_time=arrival, backfill=backfill,
                params=SamplingParams(max_tokens=output),
            )
        )  # fmt: skip
        self._arrived[name], self._tokens[name] = arrival, 0

    def run(self, until: float = 0.0) -> Outcome:
        """Until all interactive requests are over, or without any for `until` seconds."""
        due = list(reversed(self._arrivals)) if self.load.rate else []
        fill = 0
        while due or any(name[0] == "i" for name in self._arrived) or self.now < until:
            while due and due[-1][0] <= self.now:
                self._add(*due.pop(), backfill=False)
            fill = sum(name[0] == "b" for name in self._arrived)
            for _ in range(self.load.backfill - fill):
                prompt, output = self.load.prompt, self.load.output
                self._add(
                    self.now,
                    self._fill.randint(*prompt),
                    self._fill.randint(*output),
                    backfill=True,
                )
            if not self._arrived:
                self.now = due[-1][0]
                continue
            self._step()
        self.outcome.seconds = self.now
        return self.outcome

    def _step(self) -> None:
        output = self.scheduler.schedule(self.now)
        rows, prompt = output.num_decodes, output.num_batched_tokens - output.num_decodes
        took = self.load.seconds(rows, prompt) if rows + prompt else 0.001
        if self.load.noise:
            took *= max(0.5, self._noise.gauss(1.0, self.load.noise))
            took *= 3.0 if self._noise.random() < 0.005 else 1.0
        self._count(output, took)
        self.now += took
        sampled = {chunk.request_id: [1] for chunk in output.chunks if chunk.samples}
        self.scheduler.update_from_output(output, sampled, self.now)
        for name in sampled:
            self._took(name)

    def _count(self, output: SchedulerOutput, took: float) -> None:
        interactive = [0, 0]
        for place, chunk in enumerate(output.chunks):
            decodes = place < output.num_decodes
            if not chunk.backfill:
                interactive[0 if decodes else 1] += len(chunk.token_ids)
            elif decodes:
                self.outcome.decode_tokens += 1
            else:
                self.outcome.prompt_tokens += len(chunk.token_ids)
        if any(interactive):
            self.outcome.interactive_seconds += self.load.seconds(*interactive)
            self.outcome.longest_gap = max(self.outcome.longest_gap, took)

    def _took(self, name: str) -> None:
        self._tokens[name] += 1
        self._first.setdefault(name, self.now)
        if not self.scheduler.reached_max_len(name):
            return
        self.scheduler.finish(name)
        arrived, first = self._arrived.pop(name), self._first.pop(name)
        if name[0] == "i" and arrived > self._arrivals[self.load.count // 3][0]:
            self.outcome.ttft.append(first - arrived)
            self.outcome.tpot.append((self.now - first) / (self._tokens[name] - 1))
