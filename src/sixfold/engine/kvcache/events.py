"""What the prefix cache holds, told as it changes: blocks stored and removed.

Field names and shapes are vLLM's (distributed/kv_events.py of 0.32), so that routers that listen to
vLLM understand them. Not here: sending them (engine/kv_publisher.py).
"""

import struct

import msgspec

from sixfold.core.config import BLOCK_SIZE

MEDIUM = "CPU"
_unpack = struct.Struct(f"<{BLOCK_SIZE}I").unpack


class BlockStored(msgspec.Struct, tag=True, omit_defaults=True, frozen=True):
    """Full blocks, one behind the other, that can be hit from now on."""

    block_hashes: list[bytes]
    parent_block_hash: bytes | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None


class BlockRemoved(msgspec.Struct, tag=True, omit_defaults=True, frozen=True):
    """Blocks that can be hit no more."""

    block_hashes: list[bytes]
    medium: str | None


class AllBlocksCleared(msgspec.Struct, tag=True, omit_defaults=True, frozen=True):
    """Nothing can be hit any more."""


Event = BlockStored | BlockRemoved | AllBlocksCleared


class EventBatch(msgspec.Struct, array_like=True, omit_defaults=True, frozen=True):
    """What is sent at a time; `ts` in seconds since 1970."""

    ts: float
    events: list[Event]
    data_parallel_rank: int | None = None


class EventLog:
    """Changes since they were last taken; neighbours become one event."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def stored(self, digest: bytes, parent: bytes | None, tokens: bytes) -> None:
        """A block can be hit: `tokens` are packed, `parent` is the block before it."""
        ids = list(_unpack(tokens))
        last = self._events[-1] if self._events else None
        if isinstance(last, BlockStored) and last.block_hashes[-1] == parent:
            last.block_hashes.append(digest)
            last.token_ids.extend(ids)
            return
        self._events.append(BlockStored([digest], parent, ids, BLOCK_SIZE, None, MEDIUM, None))

    def removed(self, digest: bytes) -> None:
        """A block was given away."""
        last = self._events[-1] if self._events else None
        if isinstance(last, BlockRemoved):
            last.block_hashes.append(digest)
        else:
            self._events.append(BlockRemoved([digest], MEDIUM))

    def cleared(self) -> None:
        """All of them."""
        self._events.append(AllBlocksCleared())

    def take(self) -> list[Event]:
        """What has happened, in order; forgotten here."""
        events, self._events = self._events, []
        return events
