"""Which block is given away: an empty one, else the oldest of whoever has most cached."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sixfold.engine.kvcache.block_pool import BlockPool


def cached(pool: BlockPool, owner: str, count: int) -> list[int]:
    """Blocks that hold prefixes of `owner`, and that nobody runs on."""
    blocks = [pool.allocate() for _ in range(count)]
    for block in blocks:
        pool.mark_cached(block, owner)
        pool.release(block)
    return blocks


def test_a_flood_takes_its_own_blocks():
    evicted: list[int] = []
    pool = BlockPool(13, evicted.append)
    quiet = cached(pool, "quiet", 4)
    flood = cached(pool, "flood", 8)
    for _ in range(40):
        cached(pool, "flood", 1)
    assert not set(evicted) & set(quiet) and set(flood) <= set(evicted)
    # Whoever grows takes from the larger one until both are alike.
    cached(pool, "new", 3)
    assert not set(evicted) & set(quiet)


def test_one_owner_is_evicted_oldest_first():
    evicted: list[int] = []
    pool = BlockPool(6, evicted.append)
    blocks = cached(pool, "", 5)
    pool.acquire(blocks[0])
    pool.release(blocks[0])
    for _ in range(3):
        pool.allocate()
    assert evicted == blocks[1:4]


def test_owners_who_have_nothing_any_more_take_no_room():
    pool = BlockPool(8, lambda block: None)
    for number in range(1000):
        cached(pool, f"tenant {number}", 2)
    assert len(pool._heads) <= 7 and len(pool._next) < 8 + 20 and len(pool._heap) < 200


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["cache", "take", "touch", "drop"]),
                       st.integers(0, 30)), max_size=120)
)  # fmt: skip
def test_victims_are_of_the_largest_owner(actions):
    """Against a model that keeps a list per owner."""
    pool = BlockPool(11, lambda block: evicted.append(block))
    evicted: list[int] = []
    lists: dict[str, list[int]] = {}
    held: list[int] = []
    for owner, action, number in actions:
        if action in ("cache", "take") and pool.num_available:
            counts = Counter({name: len(blocks) for name, blocks in lists.items() if blocks})
            empty = pool.num_available - sum(counts.values())
            evicted.clear()
            block = pool.allocate()
            if empty:
                assert not evicted
            else:
                assert evicted == [block]
                (victim,) = (name for name, blocks in lists.items() if block in blocks)
                assert counts[victim] == max(counts.values())
                assert lists[victim].pop(0) == block, "the least recently used one"
            if action == "take":
                held.append(block)
            else:
                pool.mark_cached(block, owner)
                pool.release(block)
                lists.setdefault(owner, []).append(block)
        elif action == "touch" and lists.get(owner):
            block = lists[owner].pop(number % len(lists[owner]))
            pool.acquire(block)
            pool.release(block)
            lists[owner].append(block)
        elif action == "drop" and held:
            pool.release(held.pop(number % len(held)))
        assert pool.num_cached == sum(map(len, lists.values()))
        free = list(pool.free_blocks())
        assert len(free) == len(set(free)) == pool.num_available
