"""Blocks of one KV group: who holds them, and which one is given away next.

A block without holders stays in a free list, also when it holds a cached prefix: then it can be
taken back on a hit, until its turn for eviction comes. Empty blocks go first; then the least
recently used one of whoever has most cached, so that nobody's flood of prompts takes the others'
prefixes. Not here: what a block contains (prefix_cache.py), which request gets it (manager.py).
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

NULL_BLOCK = 0
"""Never handed out: in a block table it means "no block"."""

_RETIRED = -1


class BlockPool:
    """Reference counts and free lists in order of eviction, every operation O(1) for one owner.

    Free lists are doubly linked through two arrays. Places below `num_blocks` are blocks; the null
    block is head and tail of the empty ones, and every owner of cached blocks has a place behind
    for a list of its own. `num_blocks` counts the null block too. `on_evict` is told of each block
    whose cached content is given up. With several owners a heap, put right when it is looked at,
    knows who has most: O(log owners).
    """

    __slots__ = (
        "_cached", "_counts", "_free_heads", "_heads", "_heap", "_members", "_names", "_next",
        "_on_evict", "_owner", "_previous", "_refs", "num_available", "num_cached", "num_total",
    )  # fmt: skip

    def __init__(self, num_blocks: int, on_evict: Callable[[int], None]) -> None:
        assert num_blocks >= 1, "the null block is always there"
        self.num_total = num_blocks - 1
        """Blocks that may be handed out: without the null block and retired ones."""
        self.num_available = self.num_total
        """Length of the free lists: blocks nobody holds, cached ones among them."""
        self.num_cached = 0
        """Blocks of the free lists that hold a cached prefix."""
        self._on_evict = on_evict
        self._refs = [0] * num_blocks
        self._cached = bytearray(num_blocks)
        self._owner = [NULL_BLOCK] * num_blocks
        """Of cached blocks: the place of their owner's list."""
        self._next: list[int] = [*range(1, num_blocks), NULL_BLOCK]
        self._previous = [num_blocks - 1, *range(num_blocks - 1)]
        self._heads: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._free_heads: list[int] = []
        """Places of owners who have nothing cached any more."""
        self._counts: dict[int, int] = {}
        """Per owner's place, its blocks in the free list."""
        self._members: dict[int, int] = {}
        """Per owner's place, all its cached blocks."""
        self._heap: list[tuple[int, int]] = []
        """(-count, place): as it was when it was pushed."""

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
        """All free lists, the empty ones first, each with its next to be evicted first."""
        for head in (NULL_BLOCK, *self._heads.values()):
            block = self._next[head]
            while block != head:
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
            head = self._owner[block]
            self._link_behind(self._previous[head] if self._cached[block] else NULL_BLOCK, block)

    def mark_cached(self, block: int, owner: str = "") -> None:
        """Note that `block`, which somebody holds, now also holds a cached prefix of `owner`."""
        assert self._refs[block] > 0 and not self._cached[block]
        self._cached[block] = 1
        self._owner[block] = head = self._head_of(owner)
        self._members[head] += 1

    def unmark_cached(self, block: int) -> None:
        """The cached prefix is given up by its owner: no call of `on_evict`."""
        assert self._cached[block]
        if self._refs[block] > 0:
            self._forget_owner(block)
            return
        self._unlink(block)
        self._forget_owner(block)
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
        block = self._next[NULL_BLOCK]
        if block == NULL_BLOCK:
            block = self._next[self._largest_owner()]
        self._unlink(block)
        if self._cached[block]:
            self._forget_owner(block)
            self._on_evict(block)
        return block

    def _head_of(self, owner: str) -> int:
        """The place of the owner's list; a new one for whoever has none."""
        head = self._heads.get(owner)
        if head is not None:
            return head
        if self._free_heads:
            head = self._free_heads.pop()
        else:
            head = len(self._next)
            self._next.append(head)
            self._previous.append(head)
        self._heads[owner], self._names[head] = head, owner
        self._counts[head] = self._members[head] = 0
        return head

    def _largest_owner(self) -> int:
        """Whose list is the longest; of equals whoever came first."""
        assert self.num_cached, "no block is available: callers check first"
        if len(self._heads) == 1:
            return next(iter(self._heads.values()))
        while True:
            count, head = self._heap[0]
            now = self._counts.get(head, 0)
            if -count == now:
                return head
            heappop(self._heap)
            if now:
                heappush(self._heap, (-now, head))

    def _forget_owner(self, block: int) -> None:
        head = self._owner[block]
        self._cached[block] = 0
        self._owner[block] = NULL_BLOCK
        self._members[head] -= 1
        if not self._members[head]:
            del self._heads[self._names.pop(head)], self._counts[head], self._members[head]
            self._free_heads.append(head)

    def _count(self, block: int, change: int) -> None:
        """A cached block comes to a free list, or leaves it."""
        head = self._owner[block]
        self.num_cached += change
        self._counts[head] += change
        if change > 0:
            heappush(self._heap, (-self._counts[head], head))
        if len(self._heap) > 4 * len(self._heads) + 64:
            self._heap = [(-count, head) for head, count in self._counts.items() if count]
            heapify(self._heap)

    def _unlink(self, block: int) -> None:
        before, after = self._previous[block], self._next[block]
        self._next[before] = after
        self._previous[after] = before
        self.num_available -= 1
        if self._cached[block]:
            self._count(block, -1)

    def _link_behind(self, before: int, block: int) -> None:
        after = self._next[before]
        self._next[before] = self._previous[after] = block
        self._previous[block], self._next[block] = before, after
        self.num_available += 1
        if self._cached[block]:
            self._count(block, 1)
