"""Blocks that lost their place in the arena, compressed in memory; the least recently used go.

On a CPU the arena is memory already: all that this tier adds is what compression saves. The high
bytes of bfloat16 values (sign and exponent) take few values and are deflated; the low ones are
noise, and kept. Not here: what is worth keeping (offloader.py).
"""

import queue
import threading
import zlib
from collections import OrderedDict

import numpy as np

from sixfold.engine.offload.block_file import BlockKey

LEVEL = 1
MAX_WAITING = 64
"""Blocks that wait to be compressed; more are dropped: nothing waits for them."""


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
    """Up to `quota_bytes` of compressed blocks; compressing is done by a thread beside.

    `has`, `read`, `put`, `clear` and `close` are for one caller.
    """

    def __init__(self, quota_bytes: int) -> None:
        self._quota = quota_bytes
        self._blocks: OrderedDict[bytes, tuple[BlockKey, int, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[BlockKey, bytes] | None] = queue.Queue(MAX_WAITING)
        self.num_bytes = 0
        self.evicted = 0
        self.dropped = 0
        """Blocks that came faster than they could be compressed."""
        self._thread = threading.Thread(target=self._compress_all, name="kv-compress", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._blocks)

    def has(self, digest: bytes) -> bool:
        """Whether there is such a block."""
        return digest in self._blocks

    def put(self, key: BlockKey, payload: bytes) -> bool:
        """Keep it some time soon; False if that is not needed or not possible."""
        with self._lock:
            if key.digest in self._blocks:
                self._blocks.move_to_end(key.digest)
                return False
        try:
            self._waiting.put_nowait((key, payload))
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def clear(self) -> None:
        """Forget all of them."""
        self.flush()
        with self._lock:
            self._blocks.clear()
            self.num_bytes = 0

    def read(self, key: BlockKey) -> bytes | None:
        """The payload of exactly that block, or None."""
        with self._lock:
            found = self._blocks.get(key.digest)
            if found is None or found[0] != key:
                return None
            self._blocks.move_to_end(key.digest)
        return restore(found[2], found[1])

    def forget(self, digest: bytes) -> None:
        """Have no such block any more."""
        with self._lock:
            found = self._blocks.pop(digest, None)
            self.num_bytes -= 0 if found is None else len(found[2])

    def flush(self) -> None:
        """Wait until all that was put is there."""
        self._waiting.join()

    def close(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _compress_all(self) -> None:
        while True:
            item = self._waiting.get()
            try:
                if item is None:
                    return
                self._keep(*item)
            finally:
                self._waiting.task_done()

    def _keep(self, key: BlockKey, payload: bytes) -> None:
        data = compress(payload)
        if len(data) > self._quota:
            return
        with self._lock:
            before = self._blocks.pop(key.digest, None)
            self.num_bytes += len(data) - (0 if before is None else len(before[2]))
            self._blocks[key.digest] = (key, len(payload), data)
            while self.num_bytes > self._quota:
                _, (_, _, oldest) = self._blocks.popitem(last=False)
                self.num_bytes -= len(oldest)
                self.evicted += 1
