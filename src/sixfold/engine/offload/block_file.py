"""A KV block as bytes on disk: a header that says all about it, both under checksums.

Whatever is read is held against what was asked for: model, place, tokens and all. Not here: files
(disk_tier.py).
"""

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from sixfold.core.config import BLOCK_SIZE

MAGIC = b"6FKV"
VERSION = 2
HEADER_BYTES = 256
_TOKENS_BYTES = 4 * BLOCK_SIZE
_FIELDS = struct.Struct(f"<4sHHIIQQI16s16s16s{_TOKENS_BYTES}s")
"""Magic, version, nothing, checksum of the header with this field 0, checksum of the payload, its
bytes, seconds since 1970, position of the block, fingerprint, digest, parent's digest, tokens."""


class BlockKey(NamedTuple):
    """What a block is: where in which prompt. `tokens` are packed, `parent` empty at the start."""

    digest: bytes
    parent: bytes
    position: int
    tokens: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """A header that was read and is whole."""

    key: BlockKey
    fingerprint: bytes
    payload_bytes: int
    payload_checksum: int
    created: int


def make_header(key: BlockKey, fingerprint: bytes, payload: bytes, created: int) -> bytes:
    """HEADER_BYTES for a payload."""
    body = _pack(0, key, fingerprint, (zlib.crc32(payload), len(payload), created))
    return _pack(zlib.crc32(body), key, fingerprint, (zlib.crc32(payload), len(payload), created))


def read_header(data: bytes) -> Header | None:
    """None for anything that is not a whole header of this version."""
    if len(data) != HEADER_BYTES:
        return None
    (magic, version, _, checksum, payload_checksum, size, created, position, fingerprint, digest,
     parent, tokens) = _FIELDS.unpack(data[: _FIELDS.size])  # fmt: skip
    if magic != MAGIC or version != VERSION:
        return None
    key = BlockKey(digest, parent.rstrip(b"\0") and parent, position, tokens)
    if zlib.crc32(_pack(0, key, fingerprint, (payload_checksum, size, created))) != checksum:
        return None
    if _pack(checksum, key, fingerprint, (payload_checksum, size, created)) != data:
        return None
    return Header(key, fingerprint, size, payload_checksum, created)


def is_whole(header: Header, payload: bytes) -> bool:
    """The payload is what was written."""
    return len(payload) == header.payload_bytes and zlib.crc32(payload) == header.payload_checksum


def _pack(checksum: int, key: BlockKey, fingerprint: bytes, payload: tuple[int, int, int]) -> bytes:
    payload_checksum, size, created = payload
    body = _FIELDS.pack(
        MAGIC, VERSION, 0, checksum, payload_checksum, size, created, key.position, fingerprint,
        key.digest, key.parent, key.tokens,
    )  # fmt: skip
    return body.ljust(HEADER_BYTES, b"\0")
