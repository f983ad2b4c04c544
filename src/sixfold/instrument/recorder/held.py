"""One exchange as it passes: bytes with the times of their arrival, up to a limit, not looked at.

No header is kept but the two that say how a body is to be read. Not here: sockets (proxy), what
the bytes say (observe).
"""

import time
import zlib
from collections import deque

TAIL = 64 << 10
"""Bytes that are kept of the end of a body beyond its limit: usage stands there."""
MAX_UNPACKED = 64 << 20
_PACKED = (b"gzip", b"x-gzip", b"deflate")
_EITHER = 47
"""zlib's window bits for both gzip and deflate."""


class Held:
    """Bytes of a body with the times of their arrival: all up to `limit`, then only the last."""

    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self.times: list[float] = []
        self.total = 0
        """Bytes that passed."""
        self.size = 0
        """Bytes that are held."""
        self.whole = True
        """Nothing was left out."""
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._left = limit

    def add(self, data: bytes, now: float) -> None:
        """Bytes that arrived at `now`, on the clock of time.monotonic."""
        self.total += len(data)
        self.size += len(data)
        if self.whole and len(data) <= self._left:
            self._left -= len(data)
            self.parts.append(data)
            self.times.append(now)
            return
        self.whole = False
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= TAIL:
            lost = len(self._tail.popleft())
            self._tail_size -= lost
            self.size -= lost

    @property
    def tail(self) -> bytes:
        """The last bytes of a body that is not whole, the first of them perhaps amid a line."""
        return b"".join(self._tail)

    def forget(self) -> None:
        """Let go of all bytes; how many there were stays known."""
        self.whole = self.whole and not self.total
        self.parts, self.times, self.size = [], [], 0
        self._tail.clear()

    def unpack(self, coding: bytes) -> None:
        """Undo gzip or deflate, part by part. What is in another coding, or damaged, is let go."""
        coding = coding.strip().lower()
        if coding in (b"", b"identity"):
            return
        packed, times = self.parts, self.times
        total, whole = self.total, self.whole
        self.forget()
        if coding not in _PACKED:
            return
        unpacker, left = zlib.decompressobj(_EITHER), MAX_UNPACKED
        try:
            for part, at in zip(packed, times, strict=True):
                plain = unpacker.decompress(part, left)
                left -= len(plain)
                self.parts.append(plain)
                self.times.append(at)
                if left <= 0:
                    break
        except zlib.error:
            whole = False
        self.total, self.whole = total, whole and left > 0


class Exchange:
    """A request and its answer, filled in by whoever passes them on."""

    def __init__(self, endpoint: str, limit: int) -> None:
        self.endpoint = endpoint
        """The path, without its query."""
        self.started = time.monotonic()
        self.ended = 0.0
        self.request = Held(limit)
        self.request_coding = b""
        self.response = Held(limit)
        self.response_coding = b""
        self.content_type = b""
        """Of the response."""
        self.status = 0
        """Of the response; 0 until there is one."""
        self.error = ""
        """What went wrong, in a word or two."""
        self.client_gone = False

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self.request.size + self.response.size

    def forget(self) -> None:
        """Let go of both bodies."""
        self.request.forget()
        self.response.forget()
