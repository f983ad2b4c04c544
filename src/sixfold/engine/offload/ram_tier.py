"""Blocks that lost their place in the arena, compressed in memory; the least recently used go.

On a CPU the arena is memory already: all that this tier adds is what compression saves. The high
bytes of bfloat16 values (sign and exponent) take few values and are deflated; the low ones are
noise, and kept. Not here: what is worth keeping (offloader.py).
"""

import zlib
from collections import OrderedDict

import numpy as np

from sixfold.engine.offload.block_file import BlockKey

LEVEL = 1


def compress(payload: bytes) -> bytes:
    """Pairs of bytes apart: the low ones as they are, then the high ones deflated."""
    pairs = np.frombuffer(payload, np.uint8).reshape(-1, 2)
    return pairs[:, 0].tobytes() + zlib.compress(pairs[:, 1].tobytes(), LEVEL)


def restore(data: bytes, num_bytes: int) -> bytes:
    """The payload of `num_bytes` that was compressed."""
    half = num_bytes // 2
    pairs = np.empty((half, 2), np.uint8)
    pairs[:, 0] = np.frombuffer(data, np.uint8, half)
    pairs[:, 1] = np.frombuffer(zlib.decompress(data[half:]), np.uint8)
    return pairs.tobytes()


class RamTier:
    """Up to `quota_bytes` of compressed blocks."""

    def __init__(self, quota_bytes: int) -> None:
        self._quota = quota_bytes
        self._blocks: OrderedDict[bytes, tuple[BlockKey, int, bytes]] = OrderedDict()
        self.num_bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def has(self, digest: bytes) -> bool:
        """Whether there is such a block."""
        return digest in self._blocks

    def put(self, key: BlockKey, payload: bytes) -> bool:
        """Keep it; False if it is here already or larger than all of the quota."""
        if key.digest in self._blocks:
            self._blocks.move_to_end(key.digest)
            return False
        data = compress(payload)
        if len(data) > self._quota:
            return False
        self._blocks[key.digest] = (key, len(payload), data)
        self.num_bytes += len(data)
        while self.num_bytes > self._quota:
            _, (_, _, oldest) = self._blocks.popitem(last=False)
            self.num_bytes -= len(oldest)
            self.evicted += 1
        return True

    def clear(self) -> None:
        """Forget all of them."""
        self._blocks.clear()
        self.num_bytes = 0

    def read(self, key: BlockKey) -> bytes | None:
        """The payload of exactly that block, or None."""
        found = self._blocks.get(key.digest)
        if found is None or found[0] != key:
            return None
        self._blocks.move_to_end(key.digest)
        return restore(found[2], found[1])
