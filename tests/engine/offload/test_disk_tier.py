"""Segment files: found again after any end, bounded, and never taken for what they are not."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from sixfold.core.errors import ConfigError
from sixfold.engine.offload import disk_tier
from sixfold.engine.offload.block_file import HEADER_BYTES, BlockKey
from sixfold.engine.offload.disk_tier import DiskTier

FINGERPRINT = b"f" * 16
SIZE = 4096


def key(number: int) -> BlockKey:
    digest = number.to_bytes(16, "little")
    parent = (number - 1).to_bytes(16, "little") if number > 1 else b""
    return BlockKey(digest, parent, number, bytes([number % 256] * 128))


def payload(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def filled(directory, count: int, quota: int = 1 << 30) -> DiskTier:
    tier = DiskTier(directory, FINGERPRINT, quota)
    for number in range(1, count + 1):
        tier.put(key(number), payload(number))
    tier.flush()
    return tier


def test_blocks_are_found_again_after_a_restart(tmp_path):
    tier = filled(tmp_path, 20)
    assert len(tier) == 20 and tier.read(key(3)) == payload(3)
    assert not tier.put(key(3), payload(3)) and tier.counts.written == 20
    tier.close()
    again = DiskTier(tmp_path, FINGERPRINT, 1 << 30)
    assert [again.read(key(n)) for n in range(1, 21)] == [payload(n) for n in range(1, 21)]
    assert again.counts.corrupt == 0 and again.read(key(21)) is None
    again.close()
    assert {p.suffix for p in tmp_path.iterdir()} == {".kv", ""}


@pytest.mark.parametrize("field", ["parent", "position", "tokens"])
def test_a_block_of_another_prefix_is_not_taken(tmp_path, field):
    tier = filled(tmp_path, 3)
    other = {"parent": b"x" * 16, "position": 9, "tokens": b"y" * 128}[field]
    assert tier.read(key(2)._replace(**{field: other})) is None
    assert tier.counts.corrupt == 1 and not tier.has(key(2).digest)
    tier.close()


def test_blocks_of_another_model_are_not_taken(tmp_path):
    filled(tmp_path, 3).close()
    tier = DiskTier(tmp_path, b"g" * 16, 1 << 30)
    assert len(tier) == 0 and tier.counts.corrupt == 3
    tier.close()


def test_the_quota_holds_and_what_was_read_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_tier, "SEGMENT_BYTES", 4 * (SIZE + HEADER_BYTES))
    quota = 4 * disk_tier.SEGMENT_BYTES
    tier = DiskTier(tmp_path, FINGERPRINT, quota)
    for number in range(1, 60):
        tier.put(key(number), payload(number))
        tier.flush()
        assert tier.read(key(1)) == payload(1), "the first one is used again and again"
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= quota
    assert tier.counts.evicted > 30 and not tier.has(key(10).digest) and tier.has(key(59).digest)
    tier.close()


def test_old_segments_go_at_the_start(tmp_path):
    filled(tmp_path, 3).close()
    (path,) = tmp_path.glob("*.kv")
    os.utime(path, (time.time() - 7200,) * 2)
    tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30, ttl_seconds=3600)
    assert len(tier) == 0 and not list(tmp_path.glob("*.kv"))
    tier.close()


def test_torn_ends_cost_the_last_block_only(tmp_path):
    filled(tmp_path, 5).close()
    (path,) = tmp_path.glob("*.kv")
    whole = path.read_bytes()
    record = SIZE + HEADER_BYTES
    for size in (*range(0, len(whole), 977), len(whole) - 1, 4 * record + HEADER_BYTES):
        path.write_bytes(whole[:size])
        tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30)
        found = [tier.read(key(n)) for n in range(1, 6)]
        assert found == [payload(n) if n * record <= size else None for n in range(1, 6)]
        assert tier.counts.corrupt == (size % record > 0)
        tier.close()


def test_flipped_bits_are_counted_and_never_read(tmp_path):
    filled(tmp_path, 2).close()
    (path,) = tmp_path.glob("*.kv")
    whole = path.read_bytes()
    places = [*range(HEADER_BYTES), *random.Random(4).sample(range(HEADER_BYTES, len(whole)), 200)]
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 0x10
        path.write_bytes(broken)
        tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30)
        for number in (1, 2):
            assert tier.read(key(number)) in (payload(number), None)
        assert tier.counts.corrupt >= 1
        assert tier.read(key(1)) is None or tier.read(key(2)) is None
        tier.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_or_broken_disk_stops_writing_not_reading(tmp_path, monkeypatch, code):
    tier = filled(tmp_path, 3)
    pwrite = os.pwrite

    def failing(fd, data, offset):
        pwrite(fd, data[:100], offset)  # a part of it comes through
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", failing)
    tier.put(key(4), payload(4))
    tier.put(key(5), payload(5))
    tier.flush()
    assert tier.counts.dropped == 2 and not tier.has(key(4).digest)
    monkeypatch.undo()
    monkeypatch.setattr(tier, "_paused_until", 0.0)
    tier.put(key(6), payload(6))
    tier.flush()
    assert [tier.read(key(n)) == payload(n) for n in (1, 2, 3, 6)] == [True] * 4
    tier.close()
    again = DiskTier(tmp_path, FINGERPRINT, 1 << 30)
    assert len(again) == 4 and again.counts.corrupt == 0
    again.close()


def test_a_read_that_fails_is_no_hit(tmp_path, monkeypatch):
    tier = filled(tmp_path, 2)

    def failing(fd, count, offset):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "pread", failing)
    assert tier.read(key(1)) is None and tier.counts.corrupt == 1
    monkeypatch.undo()
    assert tier.read(key(2)) == payload(2)
    tier.close()


def test_what_can_not_be_queued_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_tier, "QUEUE_BYTES", 3 * SIZE)
    tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30)
    with tier._lock:  # the thread can't finish a block meanwhile
        tier._waiting_bytes = 3 * SIZE
    assert not tier.put(key(1), payload(1)) and tier.counts.dropped == 1
    tier._waiting_bytes = 0
    assert tier.put(key(2), payload(2))
    tier.close()


def test_a_directory_belongs_to_one_engine(tmp_path):
    tier = filled(tmp_path, 1)
    with pytest.raises(ConfigError, match="another engine"):
        DiskTier(tmp_path, FINGERPRINT, 1 << 30)
    tier.close()
    DiskTier(tmp_path, FINGERPRINT, 1 << 30).close()
    with pytest.raises(ConfigError, match="cannot use"):
        DiskTier(tmp_path / "lock" / "x", FINGERPRINT, 1 << 30)


WRITER = """
import random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_disk_tier import DiskTier, FINGERPRINT, disk_tier, key, payload
disk_tier.SEGMENT_BYTES = 64 << 10
tier = DiskTier(Path(sys.argv[1]), FINGERPRINT, 4 << 20)
print("ready", flush=True)
number = int(sys.argv[3])
while True:
    number += 1
    tier.put(key(number), payload(number))
    if number % 8 == 0:
        tier.flush()
"""
KILLS = int(os.environ.get("SIXFOLD_KILLS", "12"))


def test_killed_while_writing_nothing_wrong_is_found(tmp_path):
    rng = random.Random(5)
    found = 0
    for kill in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), os.path.dirname(__file__),
             str(kill * 100_000)], stdout=subprocess.PIPE,
        )  # fmt: skip
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        time.sleep(rng.random() * 0.1)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        tier = DiskTier(tmp_path, FINGERPRINT, 4 << 20)
        for digest in list(tier._index):
            number = int.from_bytes(digest, "little")
            assert tier.read(key(number)) in (payload(number), None)
            found += 1
        assert tier.counts.corrupt <= 2, "the torn end, and perhaps its payload"
        tier.close()
    assert found > KILLS
