"""A block's bytes on disk: nothing that was changed is taken for whole."""

import random

from sixfold.engine.offload.block_file import (
    HEADER_BYTES,
    BlockKey,
    is_whole,
    make_header,
    read_header,
)
from sixfold.engine.offload.ram_tier import RamTier, compress, restore

KEY = BlockKey(bytes(range(16)), bytes(range(16, 32)), 7, bytes(range(128)))
PAYLOAD = random.Random(1).randbytes(5000)
HEADER = make_header(KEY, b"f" * 16, PAYLOAD, 1_700_000_000)


def test_what_was_written_is_read():
    header = read_header(HEADER)
    assert header is not None and header.key == KEY and header.fingerprint == b"f" * 16
    assert header.created == 1_700_000_000 and is_whole(header, PAYLOAD)
    first = KEY._replace(parent=b"", position=0)
    found = read_header(make_header(first, b"f" * 16, b"", 0))
    assert found is not None and found.key == first


def test_every_byte_of_the_header_counts():
    for place in range(HEADER_BYTES):
        for change in (1, 0x80, 0xFF):
            broken = bytearray(HEADER)
            broken[place] ^= change
            assert read_header(bytes(broken)) is None, place
    for size in range(HEADER_BYTES):
        assert read_header(HEADER[:size]) is None
    assert read_header(HEADER + b"\0") is None


def test_payloads_are_whole_or_refused():
    header = read_header(HEADER)
    rng = random.Random(2)
    for _ in range(1000):
        broken = bytearray(PAYLOAD)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        assert not is_whole(header, bytes(broken))
    assert not is_whole(header, PAYLOAD[:-1]) and not is_whole(header, PAYLOAD + b"\0")


def test_memory_keeps_blocks_to_the_bit_and_drops_the_oldest():
    rng = random.Random(3)
    blocks = {i: bytes(b for _ in range(2000) for b in (rng.randrange(256), rng.choice(b"<=>?")))
              for i in range(4)}  # fmt: skip
    size = len(compress(blocks[0]))
    assert size < 0.8 * len(blocks[0]) and restore(compress(blocks[0]), 4000) == blocks[0]
    tier = RamTier(3 * size + size // 2)
    keys = {i: KEY._replace(digest=bytes([i] * 16)) for i in blocks}
    for i in range(3):
        assert tier.put(keys[i], blocks[i])
        tier.flush()
        assert not tier.put(keys[i], blocks[i])
    assert tier.read(keys[0]) == blocks[0]
    assert tier.put(keys[3], blocks[3])
    tier.flush()
    assert [tier.has(keys[i].digest) for i in range(4)] == [True, False, True, True]
    assert tier.read(keys[1]) is None and tier.read(keys[3]) == blocks[3]
    assert tier.read(keys[0]._replace(position=3)) is None
    assert tier.num_bytes <= 3 * size + size // 2 and tier.evicted == 1
    tier.clear()
    assert not tier.has(keys[0].digest) and tier.num_bytes == 0
    tier.close()


def test_a_block_larger_than_all_of_the_memory_is_not_kept():
    tier = RamTier(10)
    tier.put(KEY, PAYLOAD)
    tier.flush()
    assert len(tier) == 0 and tier.num_bytes == 0
    tier.close()
