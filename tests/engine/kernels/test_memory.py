"""Pages are taken ahead of their use, in order, once, and never more than a stretch of them."""

import subprocess
import sys

import numpy as np

from sixfold.engine.kernels import memory
from sixfold.engine.kernels.memory import PIECE, STRETCH, PagesAhead, huge_buffer
from sixfold.engine.kernels.ops import _native

STRETCHES = 4


class Taker:
    """Remembers what was asked for."""

    def __init__(self, able: bool = True) -> None:
        self.able, self.pieces = able, []

    def __call__(self, address: int, size: int) -> bool:
        self.pieces.append((address, size))
        return self.able


def settled(pages: PagesAhead) -> int:
    assert pages._thread is not None
    pages._thread.join()
    return pages.taken


def test_a_stretch_ahead_and_not_more() -> None:
    buffer = huge_buffer(STRETCHES * STRETCH + 12345)
    taker = Taker()
    pages = PagesAhead(buffer, taker)
    assert settled(pages) == STRETCH
    pages.used(STRETCH // 3)
    assert settled(pages) == STRETCH, "there is enough ahead"
    for used in range(0, len(buffer), PIECE // 2):
        pages.used(used)
        assert used + STRETCH // 2 <= settled(pages) <= used + STRETCH + PIECE or (
            pages.taken == len(buffer)
        )
    pages.used(len(buffer))
    assert settled(pages) == len(buffer)
    ends = [address + size - buffer.ctypes.data for address, size in taker.pieces]
    starts = [address - buffer.ctypes.data for address, _ in taker.pieces]
    assert starts == [0, *ends[:-1]] and ends[-1] == len(buffer), "all of it, in order, once"


def test_where_the_system_cannot_nothing_more_is_asked() -> None:
    taker = Taker(able=False)
    pages = PagesAhead(huge_buffer(2 * STRETCH), taker)
    settled(pages)
    pages.used(STRETCH)
    assert len(taker.pieces) == 1


def test_an_interpreter_ends_at_once_and_well_while_pages_are_taken() -> None:
    code = (
        "from sixfold.engine.kernels.memory import STRETCH, PagesAhead, huge_buffer\n"
        "from sixfold.engine.kernels.ops import _native\n"
        "PagesAhead(huge_buffer(STRETCH), _native.populate)\n"
    )
    for _ in range(5):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert ended.returncode == 0 and ended.stderr == b""


def test_native_populate_changes_nothing() -> None:
    buffer = huge_buffer(memory.HUGE_PAGE)
    buffer[5000:6000] = 7
    before = buffer.copy()
    _native.populate(buffer.ctypes.data, len(buffer))
    assert np.array_equal(buffer, before)
    assert _native.populate(0, memory.HUGE_PAGE) is False, "an address that is not mapped"
