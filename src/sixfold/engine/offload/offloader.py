"""Between arena and tiers: what is new goes out, what is wanted comes back.

Blocks are written as soon as they are full, so that a killed server has lost none but the latest;
to memory go those that lose their place in the arena. Not here: which blocks a request wants
(kvcache), files (disk_tier.py).
"""

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sixfold.engine.kvcache.offload import Load, Stored
from sixfold.engine.offload.block_file import BlockKey
from sixfold.engine.offload.disk_tier import DiskTier
from sixfold.engine.offload.policy import LoadPolicy
from sixfold.engine.offload.ram_tier import RamTier

Arena = NDArray[np.uint8]


@dataclass(slots=True)
class OffloadCounts:
    """Since the start, in blocks."""

    loaded: int = 0
    failed: int = 0
    """Wanted, but not there any more, or not whole: computed again."""
    seconds: float = 0.0
    """Spent on loading."""


class Offloader:
    """The tiers of an engine; `arenas` has one per KV group: uint8 [blocks, block bytes]."""

    def __init__(self, arenas: Sequence[Arena], disk: DiskTier | None, ram: RamTier | None) -> None:
        self.counts = OffloadCounts()
        self.policy = LoadPolicy()
        self.disk = disk
        self.ram = ram
        self._arenas = arenas
        # Who ends without a word has what waits written all the same.
        self._end = weakref.finalize(self, _close, ram, disk)

    def has(self, digest: bytes) -> bool:
        """Whether a block of that digest may be loaded."""
        if self.ram is not None and self.ram.has(digest):
            return True
        return self.disk is not None and self.disk.has(digest)

    def pays(self) -> bool:
        """Whether loading is faster than computing."""
        return self.policy.pays()

    def stored(self, blocks: Sequence[Stored]) -> None:
        """These are full since the last step: to disk."""
        if self.disk is None:
            return
        for block in blocks:
            if not self.disk.has(block.digest):
                self.disk.put(_key(block), self._bytes_of(block.blocks))

    def evicted(self, blocks: Sequence[Stored]) -> None:
        """These are about to be overwritten: to memory."""
        if self.ram is None:
            return
        for block in blocks:
            self.ram.put(_key(block), self._bytes_of(block.blocks))

    def load(self, loads: Sequence[Load]) -> bool:
        """Bring all of them into the arena. False if one can't be had: it is asked for no more."""
        began = time.perf_counter()
        done = all(self._load(load) for load in loads)
        seconds = time.perf_counter() - began
        self.counts.seconds += seconds
        if done and loads:
            self.counts.loaded += len(loads)
            self.policy.loaded(len(loads), seconds)
        self.counts.failed += not done
        return done

    def reset(self) -> None:
        """Forget all blocks."""
        if self.ram is not None:
            self.ram.clear()
        if self.disk is not None:
            self.disk.clear()

    def close(self) -> None:
        """Write what waits. Once closed, nothing is offloaded any more."""
        self.ram = self.disk = None
        self._end()

    def _load(self, load: Load) -> bool:
        key = BlockKey(load.digest, load.parent, load.position, load.tokens)
        payload = self.ram.read(key) if self.ram is not None else None
        if payload is None and self.disk is not None:
            payload = self.disk.read(key)
        if payload is None or len(payload) != sum(arena.shape[1] for arena in self._arenas):
            # Else whoever wants it would be told again that it is there, and wait for ever.
            for tier in (self.ram, self.disk):
                if tier is not None:
                    tier.forget(load.digest)
            return False
        data, at = np.frombuffer(payload, np.uint8), 0
        for arena, block in zip(self._arenas, load.blocks, strict=True):
            arena[block] = data[at : at + arena.shape[1]]
            at += arena.shape[1]
        return True

    def _bytes_of(self, blocks: Sequence[int]) -> bytes:
        parts = [arena[block].tobytes() for arena, block in zip(self._arenas, blocks, strict=True)]
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _close(ram: RamTier | None, disk: DiskTier | None) -> None:
    if ram is not None:
        ram.close()
    if disk is not None:
        disk.close()


def _key(block: Stored) -> BlockKey:
    return BlockKey(block.digest, block.parent, block.position, block.tokens)
