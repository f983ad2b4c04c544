"""Which of a file's prompts a seed sends, so that some are held out from what is tuned on.

Even prompts are for seeds below HELD_OUT, odd ones for those from there on, which confirm a pick.
Warm-up (seeds from WARM on) sends the half that its measured seed does not. Traces whose text was
kept are parted in time. Not here: reading files (files), made-up contents, which differ by seed
anyway (synthetic).
"""

from collections.abc import Sequence
from typing import TypeVar

from sixfold.instrument.workloads.content import stream

HELD_OUT = 1 << 30
WARM = 1 << 40
"""A measured seed s warms up with the seeds WARM + 256 s + round."""
PART = 1 << 56
"""What the seeds of a mix's parts are apart by: it says nothing of halves."""
LEAST = 16
"""Prompts that a file must have to be parted."""
LOOK = 128
"""Where only so many prompts are asked for, this many times as many lines are looked at."""
T = TypeVar("T")


def chosen(prompts: Sequence[T], seed: int, first: int, holdout: bool) -> list[T]:
    """The prompts for a seed: `first` of its half, or the whole half for 0.

    Where the half has twice as many or more, other seeds take others. A file is not parted where it
    has fewer than LEAST prompts, or fewer than 2 * first: then every seed sends the same.
    """
    seed = abs(seed) % PART
    warm, held_out = _purpose(seed)
    parted = holdout and len(prompts) >= max(LEAST, 2 * first)
    halves = [prompts[0::2], prompts[1::2]] if parted else [prompts, prompts]
    if held_out:
        halves.reverse()
    if not warm:
        return _window(halves[0], seed, first if parted else 0)[: first or None]
    if parted:
        return _shuffled(halves[1], seed)
    # What the measured seed does not send comes first.
    unsent = prompts[first:] if first else ()
    sent = prompts[:first] if first else prompts
    return [*_shuffled(unsent, seed), *_shuffled(sent, seed)]


def half_in_time(rows: Sequence[T], seed: int, holdout: bool) -> list[T]:
    """The earlier half of a trace's rows, or the later for seeds that confirm: rates stay as they
    were. A trace of fewer than LEAST rows is not parted.
    """
    seed = abs(seed) % PART
    warm, held_out = _purpose(seed)
    middle = len(rows) // 2 if holdout and len(rows) >= LEAST else 0
    halves = [rows[:middle], rows[middle:]] if middle else [rows, rows]
    if held_out:
        halves.reverse()
    return _shuffled(halves[1], seed) if warm else list(halves[0])


def _purpose(seed: int) -> tuple[bool, bool]:
    """Whether a seed warms up, and whether what is, or will be, measured confirms a pick."""
    warm = seed >= WARM
    measured = (seed - WARM) >> 8 if warm else seed
    return warm, measured >= HELD_OUT


def _window(half: Sequence[T], seed: int, first: int) -> list[T]:
    """From the seed's own place on; seeds and loads (`seed + (n << 20)`) follow one another."""
    count = len(half) // first if first else 1
    place = (seed + (seed >> 20)) % count * first
    return list(half[place:])


def _shuffled(prompts: Sequence[T], seed: int) -> list[T]:
    order = list(prompts)
    stream(seed, "warm").shuffle(order)
    return order
