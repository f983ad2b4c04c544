"""Blocks of one KV group: who holds them, and which one is given away next.

A block without holders stays in the free list, also when it holds a cached prefix: then it can be
taken back on a hit, until its turn for eviction comes. Not here: what a block contains
(prefix_cache.py), which request gets it (manager.py).
"""

from collections.abc import Callable, Iterator

NULL_BLOCK = 0
"""Never handed out: in a block table it means "no block"."""

_RETIRED = -1


class BlockPool:
    """Reference counts and a free list in order of eviction, every operation O(1).

    The free list is doubly linked through two arrays indexed by block id; the null block is its
    head and tail. `num_blocks` counts the null block too. `on_evict` is told of each block whose
    cached content is given up.
    """

    __slots__ = (
        "_cached", "_next", "_on_evict", "_previous", "_refs", "num_available", "num_cached",
        "num_total",
    )  # fmt: skip

    def __init__(self, num_blocks: int, on_evict: Callable[[int], None]) -> None:
        assert num_blocks >= 1, "the null block is always there"
        self.num_total = num_blocks - 1
        """Blocks that may be handed out: without the null block and retired ones."""
        self.num_available = self.num_total
        """Length of the free list: blocks nobody holds, cached ones among them."""
        self.num_cached = 0
        """Blocks of the free list that hold a cached prefix."""
        self._on_evict = on_evict
        self._refs = [0] * num_blocks
        self._cached = bytearray(num_blocks)
        self._next: list[int] = [*range(1, num_blocks), NULL_BLOCK]
        self._previous = [num_blocks - 1, *range(num_blocks - 1)]

    @property
    def num_used(self) -> int:
        """Blocks that at least one block table holds."""
        return self.num_total - self.num_available

    def ref_count(self, block: int) -> int:
        """How many block tables hold `block` (-1: retired)."""
        return self._refs[block]

    def is_cached(self, block: int) -> bool:
        """True if `block` is marked as holding a cached prefix."""
        return bool(self._cached[block])

    def free_blocks(self) -> Iterator[int]:
        """The free list, next to be evicted first."""
        block = self._next[NULL_BLOCK]
        while block != NULL_BLOCK:
            yield block
            block = self._next[block]

    def allocate(self) -> int:
        """Hand out the block whose turn it is, with one reference. Needs `num_available` > 0."""
        block = self._take_first()
        self._refs[block] = 1
        return block

    def acquire(self, block: int) -> None:
        """Add a reference; a cached block of the free list is thereby taken back."""
        refs = self._refs[block]
        assert block != NULL_BLOCK and refs >= 0, f"block {block} can't be held"
        if refs == 0:
            self._unlink(block)
        self._refs[block] = refs + 1

    def release(self, block: int) -> None:
        """Drop a reference. Without holders a cached block is evicted last, an empty one first."""
        refs = self._refs[block] - 1
        assert block != NULL_BLOCK and refs >= 0, f"block {block} was freed twice"
        self._refs[block] = refs
        if refs == 0:
            at = self._previous[NULL_BLOCK] if self._cached[block] else NULL_BLOCK
            self._link_behind(at, block)

    def mark_cached(self, block: int) -> None:
        """Note that `block`, which somebody holds, now also holds a cached prefix."""
        assert self._refs[block] > 0 and not self._cached[block]
        self._cached[block] = 1

    def unmark_cached(self, block: int) -> None:
        """The cached prefix is given up by its owner: no call of `on_evict`."""
        assert self._cached[block]
        if self._refs[block] > 0:
            self._cached[block] = 0
            return
        self._unlink(block)
        self._cached[block] = 0
        self._link_behind(NULL_BLOCK, block)

    def retire(self, count: int) -> int:
        """Take up to `count` free blocks out of service. Returns how many it was."""
        count = min(count, self.num_available)
        for _ in range(count):
            self._refs[self._take_first()] = _RETIRED
        self.num_total -= count
        return count

    def restore(self) -> None:
        """Bring all retired blocks back."""
        for block, refs in enumerate(self._refs):
            if refs == _RETIRED:
                self._refs[block] = 0
                self.num_total += 1
                self._link_behind(NULL_BLOCK, block)

    def _take_first(self) -> int:
        block: int = self._next[NULL_BLOCK]
        assert block != NULL_BLOCK, "no block is available: callers check first"
        self._unlink(block)
        if self._cached[block]:
            self._cached[block] = 0
            self._on_evict(block)
        return block

    def _unlink(self, block: int) -> None:
        before, after = self._previous[block], self._next[block]
        self._next[before] = after
        self._previous[after] = before
        self.num_available -= 1
        self.num_cached -= self._cached[block]

    def _link_behind(self, before: int, block: int) -> None:
        after = self._next[before]
        self._next[before] = self._previous[after] = block
        self._previous[block], self._next[block] = before, after
        self.num_available += 1
        self.num_cached += self._cached[block]
