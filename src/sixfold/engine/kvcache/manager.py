"""KV cache manager: block tables of running requests, over one pool per KV group.

All or nothing: an operation that lacks a block in any group changes nothing and says so. Not
here: who runs and who is preempted (scheduler), the memory itself (kernels).
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.kvcache.block_pool import NULL_BLOCK, BlockPool
from sixfold.engine.kvcache.events import EventLog
from sixfold.engine.kvcache.offload import Changes, Load, Tier
from sixfold.engine.kvcache.prefix_cache import (
    Hasher,
    Match,
    NoPrefixCache,
    PrefixCache,
    PrefixCacheBase,
    first_visible_block,
)
from sixfold.engine.kvcache.sequence import Change, KVSequence

UNBOUNDED = 1 << 62


class WindowedGroup(Protocol):
    """A KV group as the op program describes it (`KVGroup`)."""

    @property
    def window(self) -> int | None:
        """Keys that a query sees, itself included; None: all."""
        ...


class KVCacheManager:
    """Block tables for `groups`; `num_blocks` per group, the null block included.

    `model_key` must differ wherever keys and values do (content, dtype). Without prefix caching
    nothing is ever found. `hasher` replaces the keyed BLAKE2b of the prefix cache (tests).
    `reserved_tokens`: so many are set aside for each sequence as it starts, whether it will need
    them or not (the baseline that paging is held against).
    """

    def __init__(
        self,
        groups: Sequence[WindowedGroup],
        num_blocks: Sequence[int],
        model_key: str = "",
        enable_prefix_caching: bool = True,
        hasher: Hasher | None = None,
        reserved_tokens: int = 0,
    ) -> None:
        assert len(groups) == len(num_blocks) > 0
        self.windows = [group.window for group in groups]
        self._reserved = reserved_tokens
        self.prefix_cache: PrefixCacheBase
        self.pools: list[BlockPool] = []
        for group, count in enumerate(num_blocks):
            self.pools.append(BlockPool(count, partial(self._evicted, group)))
        if enable_prefix_caching:
            self.prefix_cache = PrefixCache(self.pools, self.windows, model_key, hasher)
        else:
            self.prefix_cache = NoPrefixCache(len(groups))
        self.no_match = Match(0, [[] for _ in groups])
        """For requests that must compute all of their prompt."""
        self.queries = 0
        """Tokens looked up since the start (each request's prompt once)."""
        self.hits = 0
        """Tokens of those that need not be computed."""

    @property
    def usage(self) -> float:
        """Share of blocks in use, 0 to 1, of the fullest pool. Cached blocks are not in use."""
        return max(p.num_used / p.num_total if p.num_total else 1.0 for p in self.pools)

    def new_sequence(self, salt: str = "") -> KVSequence:
        """A request's record; it holds nothing until `admit`."""
        count = len(self.pools)
        return KVSequence(salt, [[] for _ in range(count)], [[] for _ in range(count)], [0] * count)

    def max_tokens_alone(self, max_chunk: int) -> int:
        """Tokens whose keys fit when one request has all pools; it computes <= max_chunk a step."""
        limit = UNBOUNDED
        for pool, window in zip(self.pools, self.windows, strict=True):
            # A window's blocks are given back only when the next chunk begins.
            if window is None or -(-(window - 1 + max_chunk) // BLOCK_SIZE) + 1 > pool.num_total:
                limit = min(limit, pool.num_total * BLOCK_SIZE)
        return limit

    def match(self, seq: KVSequence, tokens: Sequence[int]) -> Match:
        """The longest cached prefix; the last token is left, since its logits are wanted."""
        return self.prefix_cache.match(seq, tokens, (len(tokens) - 1) // BLOCK_SIZE)

    def admit(
        self, seq: KVSequence, match: Match, tokens: Sequence[int], end: int, reserve: int
    ) -> bool:
        """Give `seq` the blocks of `match` and new ones; False if they are not there.

        Groups that see everything get blocks for all of `tokens`, so that a prefill never stops
        half way for want of them; windowed ones for the first chunk, up to token `end`. At least
        `reserve` blocks must stay available in each pool.
        """
        if self._reserved:
            reserve = 0  # nobody who runs will ask for more
        known = max(len(tokens), self._reserved)
        end = max(end, self._reserved)
        wanted = [self._num_blocks(g, known, end) for g in range(len(self.pools))]
        for pool, table, count in zip(self.pools, match.tables, wanted, strict=True):
            revived = sum(b != NULL_BLOCK and pool.ref_count(b) == 0 for b in table)
            if pool.num_available - revived - (count - len(table)) < reserve:
                return False
        for group, pool in enumerate(self.pools):
            table = seq.tables[group]
            table += match.tables[group]
            for block in table:
                if block != NULL_BLOCK:
                    pool.acquire(block)
        for group, pool in enumerate(self.pools):
            table = seq.tables[group]
            table += [pool.allocate() for _ in range(wanted[group] - len(table))]
            seq.changes[group] += enumerate(table)
            seq.first_live[group] = first_visible_block(self.windows[group], match.num_tokens)
        seq.capacity = min(map(len, seq.tables)) * BLOCK_SIZE
        self.prefix_cache.attach(seq, tokens, match.num_blocks)
        return True

    def grow(self, seq: KVSequence, start: int, end: int, reserve: int = 0) -> bool:
        """Make room for tokens [start, end), about to be computed; False if there is none.

        Blocks that no query from `start` on sees are freed either way. At least `reserve` blocks
        must stay available in each pool that gives one.
        """
        missing = []
        for group, pool in enumerate(self.pools):
            if self.windows[group] is not None:
                self._drop_unseen(seq, group, start)
            count = -(-end // BLOCK_SIZE) - len(seq.tables[group])
            if count > 0 and count + reserve > pool.num_available:
                return False
            missing.append(count)
        for group, count in enumerate(missing):
            table = seq.tables[group]
            for _ in range(count):
                block = self.pools[group].allocate()
                seq.changes[group].append((len(table), block))
                table.append(block)
        seq.capacity = min(map(len, seq.tables)) * BLOCK_SIZE
        return True

    def take_changes(self, seq: KVSequence) -> list[list[Change]]:
        """Changes of the block tables since the last call."""
        changes = seq.changes
        seq.changes = [[] for _ in changes]
        return changes

    def commit(self, seq: KVSequence, tokens: Sequence[int], num_computed: int) -> None:
        """Tokens [0, num_computed) are computed: offer full blocks to the prefix cache."""
        self.prefix_cache.register(seq, tokens, num_computed)

    def free(self, seq: KVSequence) -> None:
        """Give back all blocks, the last first: a prefix's end is evicted before its beginning."""
        self.prefix_cache.detach(seq)
        for pool, table in zip(self.pools, seq.tables, strict=True):
            for block in reversed(table):
                if block != NULL_BLOCK:
                    pool.release(block)
            table.clear()
        for changes in seq.changes:
            changes.clear()
        seq.first_live = [0] * len(self.pools)
        seq.capacity = seq.scheduled_end = 0
        seq.waits_for = None

    def count_lookup(self, queried: int, hit: int) -> None:
        """Add a request's prompt to the counters."""
        self.queries += queried
        self.hits += hit

    def reset_prefix_cache(self) -> bool:
        """Forget all cached prefixes, at once. Running requests keep their blocks: True always."""
        self.prefix_cache.reset()
        return True

    def tell(self) -> EventLog | None:
        """From now on, tell what the prefix cache holds. None where there is none."""
        if not isinstance(self.prefix_cache, PrefixCache):
            return None
        self.prefix_cache.log = EventLog()
        return self.prefix_cache.log

    def use_tier(self, tier: Tier) -> Changes | None:
        """Load what `tier` has and the arena has not. None without prefix caching.

        For one KV group without a window: its blocks hold all there is of their tokens.
        """
        assert self.windows == [None]
        if not isinstance(self.prefix_cache, PrefixCache):
            return None
        self.prefix_cache.tier, self.prefix_cache.changes = tier, Changes()
        return self.prefix_cache.changes

    def loads(self, seq: KVSequence, request_id: str, match: Match) -> list[Load]:
        """What is to be loaded for an admitted sequence."""
        found = []
        for index in range(match.num_blocks, match.num_blocks + match.num_loads):
            tokens, digest = seq.keys[index]
            parent = seq.keys[index - 1][1] if index else b""
            blocks = [table[index] for table in seq.tables]
            found.append(Load(request_id, digest, parent, index, tokens, blocks))
        return found

    def shrink(self, count: int) -> int:
        """Take up to `count` available blocks of each pool out of service; least of the pools.

        For tests and experiments: what is left must hold the largest request in the system.
        """
        return min(pool.retire(count) for pool in self.pools)

    def restore(self) -> None:
        """Bring back what `shrink` took."""
        for pool in self.pools:
            pool.restore()

    def _evicted(self, group: int, block: int) -> None:
        self.prefix_cache.evicted(group, block)

    def _num_blocks(self, group: int, known: int, end: int) -> int:
        tokens = known if self.windows[group] is None else end
        return -(-tokens // BLOCK_SIZE)

    def _drop_unseen(self, seq: KVSequence, group: int, start: int) -> None:
        table, pool = seq.tables[group], self.pools[group]
        first = min(first_visible_block(self.windows[group], start), len(table))
        for index in range(seq.first_live[group], first):
            block = table[index]
            table[index] = NULL_BLOCK
            seq.changes[group].append((index, NULL_BLOCK))
            pool.release(block)
        seq.first_live[group] = max(seq.first_live[group], first)
