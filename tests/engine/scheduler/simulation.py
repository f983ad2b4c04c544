"""A world around the scheduler: an executor that invents tokens, and a KV memory that remembers
who wrote what, so that every read of a stranger's block shows.

Tokens depend on the request's seed and the position only: that is the oracle. The memory holds, per
(group, block, offset), a fingerprint of the salt and all tokens up to that position.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from sixfold.core.config import BLOCK_SIZE
from sixfold.core.errors import RequestError
from sixfold.core.request import EngineRequest, SamplingParams
from sixfold.engine.kvcache.manager import KVCacheManager
from sixfold.engine.kvcache.prefix_cache import Hasher, PrefixCache, first_visible_block
from sixfold.engine.kvcache.sequence import PrefixNode
from sixfold.engine.scheduler.config import SchedulerConfig
from sixfold.engine.scheduler.output import ScheduledChunk, SchedulerOutput
from sixfold.engine.scheduler.scheduler import Scheduler
from sixfold.engine.scheduler.state import Phase

VOCABULARY = 50
POISON = -1


@dataclass(frozen=True)
class Group:
    """What the manager asks of a KV group."""

    window: int | None


@dataclass(frozen=True)
class World:
    """The configuration of a simulation."""

    windows: tuple[int | None, ...] = (None,)
    num_blocks: int = 64
    max_num_seqs: int = 4
    budget: int = 64
    max_model_len: int = 320
    policy: str = "fcfs"
    batching: str = "continuous"
    delay: float = 3.0
    reserves: bool = False
    caching: bool = True
    hasher: Hasher | None = None
    slowdown: float = 0.1

    def manager(self) -> KVCacheManager:
        return KVCacheManager(
            [Group(window) for window in self.windows],
            [self.num_blocks + 1] * len(self.windows),
            "model",
            self.caching and not self.reserves,
            self.hasher,
            self.max_model_len if self.reserves else 0,
        )

    def config(self) -> SchedulerConfig:
        return SchedulerConfig(
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.budget,
            max_model_len=self.max_model_len,
            policy=self.policy,
            batching=self.batching,
            max_batch_delay=self.delay,
            interactive_slowdown=self.slowdown,
        )


def oracle_token(seed: int, position: int) -> int:
    """What the model says, whatever else happens."""
    return hash((seed, position, 77)) % VOCABULARY


def fingerprints(salt: str, tokens: list[int], known: list[int] | None = None) -> list[int]:
    """One number per position for the salt and all tokens up to it; extends `known`."""
    prints = [] if known is None else known
    value = prints[-1] if prints else hash(tuple(salt.encode()))
    for token in tokens[len(prints) :]:
        value = hash((value, token))
        prints.append(value)
    return prints


@dataclass(eq=False)
class Job:
    """A submitted request and what is right for it."""

    request: EngineRequest
    seed: int
    stop_at: int
    tokens: list[int]
    prints: list[int] = field(default_factory=list)
    first_chunk: ScheduledChunk | None = None
    hit_limit: int = 0

    @property
    def output(self) -> list[int]:
        return self.tokens[len(self.request.prompt_token_ids) :]


class Simulation:
    """Drives a scheduler and checks it after every step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kv = world.manager()
        self.scheduler = Scheduler(world.config(), self.kv)
        self.live: dict[str, Job] = {}
        self.ended: dict[str, tuple[str, Job]] = {}
        self.now = 0.0
        self.submitted = 0
        self.preemptions = 0
        self.num_computed_tokens = 0
        self.num_accepted = 0
        self.computed: Counter[int] = Counter()
        width = world.max_model_len // BLOCK_SIZE + 2
        groups = range(len(world.windows))
        self.tables = [[[0] * width for _ in range(world.max_num_seqs)] for _ in groups]
        empty = [POISON] * BLOCK_SIZE
        self.memory = [[list(empty) for _ in range(world.num_blocks + 1)] for _ in groups]

    def submit(
        self, prompt: list[int], *, salt: str = "", stop_at: int = 1000, **fields: object
    ) -> str | None:
        """Add a request that says its last token at output length `stop_at`; None if refused.

        `fields` are priority, deadline, max_tokens, prompt_logprobs, request_id, backfill.
        """
        self.submitted += 1
        name = str(fields.pop("request_id", f"r{self.submitted}"))
        params = SamplingParams(
            max_tokens=fields.pop("max_tokens", 8),  # type: ignore[arg-type]
            prompt_logprobs=fields.pop("prompt_logprobs", None),  # type: ignore[arg-type]
        )
        request = EngineRequest(
            request_id=name,
            prompt_token_ids=prompt,
            params=params,
            arrival_time=self.now,
            cache_salt=salt,
            **fields,  # type: ignore[arg-type]
        )
        try:
            self.scheduler.add(request)
        except RequestError as error:
            assert error.hint
            return None
        self.live[name] = Job(request, self.submitted, stop_at, list(prompt))
        return name

    def cancel(self, name: str) -> None:
        """Abort; the blocks are free on return."""
        assert self.scheduler.abort(name)
        assert not self.scheduler.abort(name)
        self._end(name, "abort")
        self.check()

    def step(
        self, abort_before_update: bool = False, fails: bool = False, guess: int | None = None
    ) -> SchedulerOutput:
        """schedule -> execute -> update -> finish, with a fault in between if asked.

        `guess` seeds what is drafted: for some requests some tokens, right and wrong ones.
        """
        self.now += 1.0
        rng = Random(guess)
        drafts = {name: rng.randint(0, 40) for name in self.live} if guess is not None else {}
        output = self.scheduler.schedule(self.now, drafts)
        self._guess(output, rng)
        for name in output.expired:
            job = self.live[name]
            assert job.request.deadline is not None and job.request.deadline <= self.now
            assert self.scheduler.timings(name).queue >= 0
            self._end(name, "deadline")
        self._check_output(output)
        if fails:
            self._fail(output)
        else:
            self._execute(output)
            if abort_before_update and output.chunks:
                self.cancel(output.chunks[len(output.chunks) // 2].request_id)
            self._update(output)
        self.check()
        return output

    def run(self) -> None:
        """Step until all is done: faults are over, so every request must end.

        A step computes a token at least, and recomputation after preemption is paid for tenfold.
        """
        work = sum(state.max_len for state in self.scheduler._requests.values())
        max_steps = 200 + 10 * work
        idle = 0
        for _ in range(max_steps):
            if not self.live:
                break
            output = self.step()
            # A step that only sees a request expire has got on, too.
            idle = 0 if output.chunks or output.expired else idle + 1
            patience = self.world.delay if self.world.batching == "dynamic" else 0
            assert idle < 2 + patience, "nothing runs though requests wait"
        assert not self.live, "a request never ends"
        assert not self.scheduler._requests
        assert all(pool.num_used == 0 for pool in self.kv.pools)

    def _guess(self, output: SchedulerOutput, rng: Random) -> None:
        for chunk in output.chunks:
            job = self.live[chunk.request_id]
            for i in range(chunk.num_drafted):
                right = oracle_token(job.seed, len(job.tokens) + i)
                guess = right if rng.random() < 0.8 else (right + 1) % VOCABULARY
                chunk.token_ids[len(chunk.token_ids) - chunk.num_drafted + i] = guess

    def _fail(self, output: SchedulerOutput) -> None:
        """The step breaks half way: its blocks hold rubbish, its requests are aborted."""
        for chunk in output.chunks:
            state = self.scheduler._requests[chunk.request_id]
            for memory, table in zip(self.memory, state.kv.tables, strict=True):
                for position in range(chunk.start, chunk.start + len(chunk.token_ids)):
                    memory[table[position // BLOCK_SIZE]][position % BLOCK_SIZE] = POISON
        for chunk in output.chunks:
            self.scheduler.abort(chunk.request_id)
            self._end(chunk.request_id, "error")

    def _execute(self, output: SchedulerOutput) -> None:
        """All writes of a step come before its reads, as in the kernels (layer by layer)."""
        for chunk in output.chunks:
            job = self.live[chunk.request_id]
            fingerprints(job.request.cache_salt, job.tokens, job.prints)
            prints = self._prints(chunk, job)
            for group, changes in enumerate(chunk.new_blocks):
                for index, block in changes:
                    self.tables[group][chunk.slot][index] = block
            for group in range(len(self.world.windows)):
                self._write(group, chunk, prints)
            self.num_computed_tokens += len(chunk.token_ids)
        for chunk in output.chunks:
            for group, window in enumerate(self.world.windows):
                prints = self._prints(chunk, self.live[chunk.request_id])
                self._read(group, window, chunk, prints)

    def _prints(self, chunk: ScheduledChunk, job: Job) -> list[int]:
        """Fingerprints of the request's tokens and of those guessed."""
        guessed = chunk.token_ids[len(chunk.token_ids) - chunk.num_drafted :]
        return fingerprints(job.request.cache_salt, job.tokens + guessed, list(job.prints))

    def _write(self, group: int, chunk: ScheduledChunk, prints: list[int]) -> None:
        table, pool = self.tables[group][chunk.slot], self.kv.pools[group]
        for position in range(chunk.start, chunk.start + len(chunk.token_ids)):
            block = table[position // BLOCK_SIZE]
            assert block != 0, "a token without a block"
            assert not pool.is_cached(block), "a cached block is written"
            self.memory[group][block][position % BLOCK_SIZE] = prints[position]
            if group == 0 and position % BLOCK_SIZE == BLOCK_SIZE - 1:
                self.computed[prints[position]] += 1

    def _read(
        self, group: int, window: int | None, chunk: ScheduledChunk, prints: list[int]
    ) -> None:
        end = chunk.start + len(chunk.token_ids)
        first = 0 if window is None else max(0, chunk.start - window + 1)
        table = self.tables[group][chunk.slot]
        for index in range(first // BLOCK_SIZE, -(-end // BLOCK_SIZE)):
            low = max(first - index * BLOCK_SIZE, 0)
            high = min(end - index * BLOCK_SIZE, BLOCK_SIZE)
            assert table[index] != 0, "a visible block is missing"
            held = self.memory[group][table[index]][low:high]
            base = index * BLOCK_SIZE
            assert held == prints[base + low : base + high], "a stranger's block is read"

    def _update(self, output: SchedulerOutput) -> None:
        sampled = {}
        for chunk in output.chunks:
            job = self.live.get(chunk.request_id)
            if job is not None and chunk.samples:
                guessed = chunk.token_ids[len(chunk.token_ids) - chunk.num_drafted :]
                new = [oracle_token(job.seed, len(job.tokens))]
                while len(new) <= len(guessed) and guessed[len(new) - 1] == new[-1]:
                    new.append(oracle_token(job.seed, len(job.tokens) + len(new)))
                job.tokens += new
                self.num_accepted += len(new) - 1
                sampled[chunk.request_id] = new
        self.scheduler.update_from_output(output, sampled, self.now + 0.5)
        for name in sampled:
            job = self.live[name]
            assert self.scheduler._requests[name].output == job.output
            reason = "length" if self.scheduler.reached_max_len(name) else ""
            if len(job.output) >= job.stop_at:
                reason = "stop"
            if reason:
                self.scheduler.finish(name)
                self._end(name, reason)

    def _end(self, name: str, reason: str) -> None:
        job = self.live.pop(name)
        key = f"{name}#{job.seed}"
        assert key not in self.ended, "a request ends twice"
        self.ended[key] = (reason, job)
        prompt = len(job.request.prompt_token_ids)
        right = [oracle_token(job.seed, prompt + i) for i in range(len(job.output))]
        assert job.output == right
        if reason == "length":
            limit = min(prompt + (job.request.params.max_tokens or 1 << 30), 10**9)
            assert len(job.tokens) <= min(limit, self.world.max_model_len)

    def _check_output(self, output: SchedulerOutput) -> None:
        chunks = output.chunks
        names = [chunk.request_id for chunk in chunks]
        assert len(set(names)) == len(names)
        assert not set(names) & {*output.preempted, *output.expired}
        assert output.num_batched_tokens == sum(len(chunk.token_ids) for chunk in chunks)
        assert output.num_batched_tokens <= self.world.budget
        self.preemptions += len(output.preempted)
        decoding = []
        for chunk in chunks:
            job, end = self.live[chunk.request_id], chunk.start + len(chunk.token_ids)
            known = end - chunk.num_drafted
            assert known > chunk.start, "a token of its own comes first"
            assert chunk.token_ids[: known - chunk.start] == job.tokens[chunk.start : known]
            assert chunk.samples == (known == len(job.tokens))
            assert chunk.num_drafted == 0 or chunk.samples
            scores = job.request.params.prompt_logprobs is not None and not job.output
            assert chunk.prompt_logprobs == scores
            state = self.scheduler._requests[chunk.request_id]
            decoding.append(state.phase is Phase.DECODE)
            if job.first_chunk is None:
                job.first_chunk, job.hit_limit = chunk, (len(job.tokens) - 1) // BLOCK_SIZE
                assert chunk.start % BLOCK_SIZE == 0
                assert state.timings.cached_tokens == chunk.start
                if scores:
                    assert chunk.start == 0
        assert decoding == sorted(decoding, reverse=True), "decodes come first"
        assert sum(decoding) == output.num_decodes
        self._check_yielding(output)

    def _check_yielding(self, output: SchedulerOutput) -> None:
        """Backfill has only what interactive requests can't use in this step."""
        lanes = self.scheduler._lanes
        held = [s for s in self.scheduler._requests.values() if s.request.backfill]
        assert {s.kv for s in held if s.slot >= 0} == {s.kv for s in lanes.backfill.running()}
        for chunk in output.chunks:
            assert chunk.backfill == self.live[chunk.request_id].request.backfill
            assert not chunk.backfill or not chunk.num_drafted
        if not lanes.backfill.num_running:
            return
        ours = [chunk for chunk in output.chunks if not chunk.backfill]
        spent = sum(len(chunk.token_ids) - chunk.num_drafted for chunk in ours)
        computed = {chunk.request_id for chunk in ours}
        for state in lanes.interactive.running():
            name = state.request.request_id
            assert name in computed or spent == self.world.budget, "backfill got its tokens"
        # Who was sent back by hand, and cancelled since, still keeps others out of this step.
        jobs = [self.live.get(name) for name in output.preempted]
        if spent == self.world.budget or not all(job and job.request.backfill for job in jobs):
            return
        for state in lanes.interactive.waiting:
            if lanes.interactive.admission.admits(state):
                owner = state.kv.waits_for and state.kv.waits_for.owner
                assert owner is not None, "backfill holds a slot or blocks that others need"
                assert lanes.backfill_of(owner) is None, "nobody waits for backfill"

    # ---- what must hold at any time

    def check(self) -> None:
        """Blocks, references, slots, counters and cached contents."""
        states = list(self.scheduler._requests.values())
        assert {s.request.request_id for s in states} == set(self.live)
        running = [s for s in states if s.phase is not Phase.WAITING]
        assert len(running) == self.scheduler.num_running <= self.world.max_num_seqs
        slots = [s.slot for s in running] + self.scheduler._lanes.free_slots
        assert sorted(slots) == list(range(self.world.max_num_seqs))
        stats = self.scheduler.stats()
        assert (stats.running, stats.waiting) == (len(running), len(states) - len(running))
        assert 0 <= stats.prefix_cache_hits <= stats.prefix_cache_queries
        assert stats.preemptions == self.preemptions + len(self.scheduler._lanes.preempted)
        for state in states:
            assert state.phase is not Phase.WAITING or not any(state.kv.tables)
        self._check_pools()
        if isinstance(self.kv.prefix_cache, PrefixCache):
            self._check_cache(self.kv.prefix_cache)

    def _check_pools(self) -> None:
        for group, pool in enumerate(self.kv.pools):
            window = self.world.windows[group]
            holders: Counter[int] = Counter()
            for state in self.scheduler._requests.values():
                blocks = [block for block in state.kv.tables[group] if block]
                holders.update(blocks)
                if window is not None:
                    span = window + self.world.budget + BLOCK_SIZE
                    assert len(blocks) <= -(-span // BLOCK_SIZE) + 1, "window blocks pile up"
                first = first_visible_block(window, state.num_computed)
                assert all(state.kv.tables[group][first:]), "a visible block is gone"
            free = list(pool.free_blocks())
            assert len(set(free)) == len(free) == pool.num_available
            refs = {block: pool.ref_count(block) for block in range(1, self.world.num_blocks + 1)}
            assert all(holders[block] == max(0, count) for block, count in refs.items())
            assert set(free) == {block for block, count in refs.items() if count == 0}
            cached = sum(pool.is_cached(block) for block in free)
            retired = sum(count < 0 for count in refs.values())
            used = sum(count > 0 for count in refs.values())
            assert cached == pool.num_cached and used == pool.num_used
            assert (len(free) - cached) + cached + used == pool.num_total
            assert pool.num_total == self.world.num_blocks - retired

    def _check_cache(self, cache: PrefixCache) -> None:
        needs: Counter[int] = Counter()
        prints: dict[int, list[int]] = {}
        running = [s.kv for s in self.scheduler._requests.values()]
        for seq in running:
            if seq.epoch == cache._epoch:
                needs.update(id(node) for node in seq.nodes)
        for node in cache._nodes.values():
            assert node.parent is not None
            needs[id(node.parent)] += 1
            needs[id(node)] += sum(block != 0 for block in node.blocks)
            assert node.owner is None or (node.owner in running and any(node.owner.tables))
        for node in [*cache._nodes.values(), *cache._roots.values()]:
            assert node.refs == needs[id(node)] > 0, "a node's references are wrong"
        for group, held in enumerate(cache._held):
            pool = self.kv.pools[group]
            marked = {b for b in range(self.world.num_blocks + 1) if pool.is_cached(b)}
            assert marked == set(held)
            for block, node in held.items():
                assert node.blocks[group] == block
                assert cache._nodes[node.digest] is node
                assert self.memory[group][block] == _path_prints(node, prints)[-BLOCK_SIZE:]


def _path_prints(node: PrefixNode, known: dict[int, list[int]]) -> list[int]:
    """Fingerprints of a cached block, from the tree's own tokens and salt."""
    if id(node) not in known:
        assert node.parent is not None
        if node.parent.parent is None:
            salt = node.parent.tokens.removeprefix((5).to_bytes(8, "little") + b"model").decode()
            before: list[int] = []
            last = hash(tuple(salt.encode()))
        else:
            before = _path_prints(node.parent, known)
            last = before[-1]
        prints = []
        for token in memoryview(node.tokens).cast("I"):
            last = hash((last, token))
            prints.append(last)
        known[id(node)] = prints
    return known[id(node)]
