"""Blocks in segment files: appended by a thread beside, found again after a restart.

A segment is written as *.open and renamed when it is full, so that only the last one can have a
torn end; whatever of it is whole is found. The least recently used segment goes when the quota is
reached. What is not exactly what was asked for is counted, forgotten and computed again.
Not here: what a block's bytes are (block_file.py), when to load (policy.py).
"""

import contextlib
import os
import queue
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from sixfold.core.errors import ConfigError
from sixfold.engine.offload.block_file import (
    HEADER_BYTES,
    BlockKey,
    is_whole,
    make_header,
    read_header,
)

SEGMENT_BYTES = 32 << 20
QUEUE_BYTES = 128 << 20
"""Blocks that wait to be written; more are dropped: nothing waits for the disk."""
PAUSE_SECONDS = 10.0
"""After a failed write nothing is written for so long."""


@dataclass(slots=True)
class DiskCounts:
    """Since the start."""

    written: int = 0
    read: int = 0
    dropped: int = 0
    """Blocks that were not written: the queue was full, or writing failed."""
    corrupt: int = 0
    """Blocks that were not what was asked for, or torn."""
    evicted: int = 0


@dataclass(slots=True, eq=False)
class _Segment:
    path: Path
    fd: int
    size: int
    used: float
    """When it was last read from or written to."""
    digests: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    segment: _Segment
    offset: int


class DiskTier:
    """Blocks of one model in a directory of their own.

    Raises ConfigError where that can't be had. `has`, `read`, `put` and `close` are for one caller.
    """

    def __init__(
        self, directory: Path, fingerprint: bytes, quota_bytes: int, ttl_seconds: float = 0.0
    ) -> None:
        """`ttl_seconds`: segments that were not written to for so long go at the start; 0: none."""
        self.counts = DiskCounts()
        self._directory = directory
        self._fingerprint = fingerprint
        self._quota = quota_bytes
        self._index: dict[bytes, _Place] = {}
        self._segments: list[_Segment] = []
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[BlockKey, bytes] | None] = queue.Queue()
        self._waiting_bytes = 0
        self._queued: set[bytes] = set()
        self._open: _Segment | None = None
        self._paused_until = 0.0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._claim()
            self._recover(ttl_seconds)
        except OSError as error:
            raise ConfigError(
                f"cannot use {directory} for offloaded blocks: {error.strerror}",
                "point --kv-offload-dir to a directory of your own on a local disk",
            ) from error
        self._thread = threading.Thread(target=self._write_all, name="kv-offload", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def num_bytes(self) -> int:
        """Of all segments."""
        return sum(segment.size for segment in self._segments)

    def has(self, digest: bytes) -> bool:
        """Whether there seems to be such a block."""
        return digest in self._index

    def put(self, key: BlockKey, payload: bytes) -> bool:
        """Write it some time soon; False if that is not needed or not possible."""
        if key.digest in self._index or key.digest in self._queued:
            return False
        if self._waiting_bytes + len(payload) > QUEUE_BYTES:
            self.counts.dropped += 1
            return False
        with self._lock:
            self._waiting_bytes += len(payload)
            self._queued.add(key.digest)
        self._waiting.put((key, payload))
        return True

    def read(self, key: BlockKey) -> bytes | None:
        """The payload of exactly that block, or None; it is forgotten then."""
        with self._lock:
            place = self._index.get(key.digest)
            payload = None if place is None else self._read_at(place, key)
            if place is not None and payload is None:
                del self._index[key.digest]
                self.counts.corrupt += 1
        if payload is not None:
            self.counts.read += 1
        return payload

    def forget(self, digest: bytes) -> None:
        """Have no such block any more."""
        with self._lock:
            self._index.pop(digest, None)

    def clear(self) -> None:
        """Forget all blocks, what waits to be written included."""
        self.flush()
        with self._lock:
            self._seal()
            for segment in list(self._segments):
                self._remove(segment)

    def flush(self) -> None:
        """Wait until all that was put is written."""
        self._waiting.join()

    def close(self) -> None:
        """Write what waits, and end the segment."""
        self._waiting.put(None)
        self._thread.join()
        with self._lock:
            self._seal()
            for segment in self._segments:
                os.close(segment.fd)
            self._segments.clear()
            self._index.clear()
        os.close(self._claimed)

    # ---- reading

    def _read_at(self, place: _Place, key: BlockKey) -> bytes | None:
        try:
            header = read_header(os.pread(place.segment.fd, HEADER_BYTES, place.offset))
            if header is None or header.fingerprint != self._fingerprint or header.key != key:
                return None
            payload = _pread(place.segment.fd, header.payload_bytes, place.offset + HEADER_BYTES)
        except OSError:
            return None
        if not is_whole(header, payload):
            return None
        place.segment.used = time.time()
        return payload

    # ---- writing, in the thread

    def _write_all(self) -> None:
        while True:
            item = self._waiting.get()
            try:
                if item is None:
                    return
                self._write(*item)
            finally:
                self._waiting.task_done()

    def _write(self, key: BlockKey, payload: bytes) -> None:
        written = False
        if time.monotonic() >= self._paused_until:
            header = make_header(key, self._fingerprint, payload, int(time.time()))
            try:
                segment = self._segment_for(HEADER_BYTES + len(payload))
                written = self._append(segment, key, header + payload)
            except OSError:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
        with self._lock:
            self._waiting_bytes -= len(payload)
            self._queued.discard(key.digest)
            self.counts.written += written
            self.counts.dropped += not written

    def _append(self, segment: _Segment, key: BlockKey, record: bytes) -> bool:
        offset = segment.size
        try:
            _pwrite(segment.fd, record, offset)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(segment.fd, offset)
            raise
        with self._lock:
            segment.size, segment.used = offset + len(record), time.time()
            segment.digests.append(key.digest)
            self._index[key.digest] = _Place(segment, offset)
        return True

    def _segment_for(self, num_bytes: int) -> _Segment:
        with self._lock:
            if self._open is not None and self._open.size + num_bytes > SEGMENT_BYTES:
                self._seal()
            if self._open is None:
                self._make_room(max(SEGMENT_BYTES, num_bytes))
                path = self._directory / f"{time.time_ns():020d}.open"
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                self._open = _Segment(path, fd, 0, time.time())
                self._segments.append(self._open)
            return self._open

    def _seal(self) -> None:
        """Make the open segment one that is never written to again."""
        segment, self._open = self._open, None
        if segment is None:
            return
        with contextlib.suppress(OSError):
            os.fsync(segment.fd)
            path = segment.path.with_suffix(".kv")
            os.rename(segment.path, path)
            segment.path = path

    def _make_room(self, num_bytes: int) -> None:
        while self._segments and self.num_bytes + num_bytes > self._quota:
            self._remove(min(self._segments, key=lambda segment: segment.used))

    def _remove(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        for digest in segment.digests:
            place = self._index.get(digest)
            if place is not None and place.segment is segment:
                del self._index[digest]
                self.counts.evicted += 1
        os.close(segment.fd)
        with contextlib.suppress(OSError):
            segment.path.unlink()

    # ---- the start

    def _claim(self) -> None:
        """One engine per directory: two would remove each other's segments."""
        import fcntl

        self._claimed = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._claimed, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._claimed)
            raise ConfigError(
                f"another engine keeps blocks in {self._directory}",
                "give each engine its own --kv-offload-dir",
            ) from error

    def _recover(self, ttl_seconds: float) -> None:
        now = time.time()
        paths = sorted(p for p in self._directory.iterdir() if p.suffix in (".kv", ".open"))
        for path in paths:
            written = path.stat().st_mtime
            if ttl_seconds and now - written > ttl_seconds:
                path.unlink()
                continue
            segment = _Segment(path, os.open(path, os.O_RDWR), 0, written)
            self._segments.append(segment)
            self._scan(segment, path.stat().st_size)
            if path.suffix == ".open":
                self._open = segment
                self._seal()
        self._make_room(0)

    def _scan(self, segment: _Segment, size: int) -> None:
        """Index what has a whole header; payloads are checked when they are read."""
        while segment.size < size:
            header = read_header(os.pread(segment.fd, HEADER_BYTES, segment.size))
            end = segment.size + HEADER_BYTES + (header.payload_bytes if header else 0)
            if header is None or end > size:
                self.counts.corrupt += 1
                segment.size = size
                return
            if header.fingerprint == self._fingerprint:
                self._index[header.key.digest] = _Place(segment, segment.size)
                segment.digests.append(header.key.digest)
            else:
                self.counts.corrupt += 1
            segment.size = end


def _pread(fd: int, count: int, offset: int) -> bytes:
    """As many bytes as there are, up to `count`."""
    parts: list[bytes] = []
    while count > 0:
        part = os.pread(fd, count, offset)
        if not part:
            break
        parts.append(part)
        count, offset = count - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _pwrite(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
