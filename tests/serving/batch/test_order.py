from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from sixfold.serving.batch.admission import BLOCK, KVRoom, Lengths, common
from sixfold.serving.batch.order import SHARED, order


@dataclass
class Item:
    prefix: str
    size: int = 1


@given(st.lists(st.builds(Item, st.text("ab", max_size=6).map(lambda t: t * 100), st.integers())))
def test_each_task_has_one_place(items):
    assert sorted(order(items)) == list(range(len(items)))


def test_what_shares_a_beginning_comes_together_and_the_longest_group_first():
    a, b = "a" * SHARED, "b" * SHARED
    items = [Item(a + "1", 5), Item(b + "1", 9), Item("short", 7), Item(a + "2", 8), Item(b + "0")]
    assert order(items) == [4, 1, 0, 3, 2] or order(items) == [4, 1, 3, 0, 2]
    assert [items[i].prefix[0] for i in order(items)] == ["b", "b", "a", "a", "s"]


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_beginning(a, b):
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y),
                  min(len(a), len(b)))  # fmt: skip
    assert common(a, b) == length


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200), st.booleans())))
def test_what_is_admitted_fits_or_is_alone(asks):
    admission, held = KVRoom(16 * BLOCK), {}
    for ticket, (prompt, output, leaves) in enumerate(asks):
        if admission.admit(ticket, [ticket] * prompt, output):
            held[ticket] = -(-(prompt + output) // BLOCK) * BLOCK
        assert len(held) <= 1 or sum(held.values()) <= 16 * BLOCK
        if leaves and held:
            gone = min(held)
            admission.leave(gone)
            del held[gone]
        assert len(admission) == len(held)


def test_a_prefix_that_neighbours_share_counts_once():
    admission, prefix = KVRoom(10 * BLOCK), list(range(6 * BLOCK))
    assert all(admission.admit(i, [*prefix, i], BLOCK - 1) for i in range(4))
    assert not admission.admit(9, [1], 8 * BLOCK)


def test_lengths_start_careful_and_learn():
    lengths = Lengths()
    assert lengths.expected(100) == 100
    for i in range(200):
        lengths.add(10 + i % 5, 100)
    assert 10 <= lengths.expected(100) <= 20
