"""Which block holds which prefix: found by chained hash, decided by the tokens themselves.

Also knows which running sequence is computing which prefix, so that the next request waits for it,
or reads it within the same step, instead of computing it again. Not here: reference counts and
order of eviction (block_pool.py), when a request runs (scheduler).
"""

import hashlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sixfold.core.config import BLOCK_SIZE
from sixfold.engine.kvcache.block_pool import NULL_BLOCK, BlockPool
from sixfold.engine.kvcache.events import EventLog
from sixfold.engine.kvcache.offload import Changes, Stored, Tier
from sixfold.engine.kvcache.sequence import KVSequence, PrefixNode

Hasher = Callable[[bytes, bytes], bytes]
"""(parent's digest, packed tokens) -> digest."""

_pack = struct.Struct(f"<{BLOCK_SIZE}I").pack


def blake2b_hasher(key: str) -> Hasher:
    """Keyed BLAKE2b (RFC 7693) with 16-byte digests; `key` is a text of any length."""
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()

    def digest(parent: bytes, tokens: bytes) -> bytes:
        return hashlib.blake2b(parent + tokens, digest_size=16, key=secret).digest()

    return digest


def first_visible_block(window: int | None, position: int) -> int:
    """Index of the first block that a query at `position` sees: keys (position - window, ...]."""
    return 0 if window is None else max(0, position - window + 1) // BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class Match:
    """What of a prompt is there already.

    `tables` has per KV group one block id per full block of the hit (0: not needed). `in_flight`
    says that the next block is being computed by a running sequence: waiting is cheaper.
    """

    num_blocks: int
    tables: list[list[int]]
    in_flight: bool = False
    num_loads: int = 0
    """Blocks behind those that a tier outside the arena has: they get blocks and are loaded."""

    @property
    def num_tokens(self) -> int:
        """Tokens that need not be computed."""
        return (self.num_blocks + self.num_loads) * BLOCK_SIZE


class PrefixCacheBase(ABC):
    """What the KV cache manager asks of a prefix cache."""

    @abstractmethod
    def match(self, seq: KVSequence, tokens: Sequence[int], limit: int) -> Match:
        """The longest usable prefix of `tokens`, at most `limit` blocks long."""

    @abstractmethod
    def attach(self, seq: KVSequence, tokens: Sequence[int], hit: int) -> None:
        """`seq` starts to run with `hit` blocks matched: it is going to compute the others."""

    @abstractmethod
    def register(self, seq: KVSequence, tokens: Sequence[int], num_computed: int) -> None:
        """Tokens [0, num_computed) of `seq` are in its blocks: offer the full ones."""

    @abstractmethod
    def detach(self, seq: KVSequence) -> None:
        """`seq` runs no more: what it was to compute is free for another to take over."""

    @abstractmethod
    def evicted(self, group: int, block: int) -> None:
        """The pool of `group` gave the cached `block` away."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything; running sequences go on, but offer nothing any more."""


class NoPrefixCache(PrefixCacheBase):
    """Prefix caching switched off: never a hit, nothing kept."""

    def __init__(self, num_groups: int) -> None:
        self._no_match = Match(0, [[] for _ in range(num_groups)])

    def match(self, seq: KVSequence, tokens: Sequence[int], limit: int) -> Match:
        """Nothing."""
        return self._no_match

    def attach(self, seq: KVSequence, tokens: Sequence[int], hit: int) -> None:
        """Nothing to claim."""

    def register(self, seq: KVSequence, tokens: Sequence[int], num_computed: int) -> None:
        """Nothing to keep."""

    def detach(self, seq: KVSequence) -> None:
        """Nothing to give up."""

    def evicted(self, group: int, block: int) -> None:
        """Can't happen: nothing is ever marked as cached."""
        raise AssertionError(f"block {block} of group {group} was never cached")

    def reset(self) -> None:
        """Nothing to forget."""


class PrefixCache(PrefixCacheBase):
    """A tree of full blocks per salt, found through one table of digests.

    `pools` and `windows` have one entry per KV group. A digest that two prefixes share belongs to
    the first of them while that one lives; the other is then not cached, never mistaken.
    """

    def __init__(
        self,
        pools: Sequence[BlockPool],
        windows: Sequence[int | None],
        model_key: str,
        hasher: Hasher | None = None,
    ) -> None:
        self._pools = pools
        self._windows = windows
        self._model = model_key.encode()
        self._hash = hasher or blake2b_hasher(model_key)
        self._epoch = 0
        self.log: EventLog | None = None
        """Where changes are told, if anybody wants to know."""
        # Layers that see everything decide what a hit is: theirs are the blocks that are told of.
        self._told = next((g for g, window in enumerate(windows) if window is None), 0)
        self.tier: Tier | None = None
        self.changes: Changes | None = None
        """With a tier: what it may want to know."""
        self._clear()

    def _clear(self) -> None:
        self._roots: dict[bytes, PrefixNode] = {}
        self._nodes: dict[bytes, PrefixNode] = {}
        self._held: list[dict[int, PrefixNode]] = [{} for _ in self._pools]

    def holds(self, group: int, block: int) -> PrefixNode | None:
        """The node whose keys and values `block` of `group` keeps for others, if any."""
        return self._held[group].get(block)

    def match(self, seq: KVSequence, tokens: Sequence[int], limit: int) -> Match:
        """Longest L with all blocks that a query at token L sees (windows included) at hand."""
        if self._still_waits(seq):
            return Match(0, [], in_flight=True)
        nodes = self._walk(seq, tokens, limit)
        hit = self._longest_hit(nodes)
        in_flight = hit < len(nodes) and nodes[hit].owner is not None
        seq.waits_for = nodes[hit] if in_flight else None
        seq.waits_end = (hit + 1) * BLOCK_SIZE
        tables = []
        for group, window in enumerate(self._windows):
            first = first_visible_block(window, hit * BLOCK_SIZE)
            found = [self._block(nodes[i], i, group) for i in range(first, hit)]
            tables.append([NULL_BLOCK] * min(first, hit) + found)
        loads = 0 if in_flight else self._loadable(seq, tokens, hit, limit)
        return Match(hit, tables, in_flight, loads)

    def _loadable(self, seq: KVSequence, tokens: Sequence[int], hit: int, limit: int) -> int:
        """Blocks behind the first `hit` that the tier has, one behind the other."""
        tier, count = self.tier, 0
        if tier is None:
            return 0
        while hit + count < limit and tier.has(self._key(seq, tokens, hit + count)[1]):
            count += 1
        return count if count and tier.pays() else 0

    def attach(self, seq: KVSequence, tokens: Sequence[int], hit: int) -> None:
        """Pin the nodes of all full blocks of `tokens`; claim those that nobody has or computes."""
        seq.epoch, seq.waits_for = self._epoch, None
        self._extend(seq, tokens, len(tokens) // BLOCK_SIZE)
        for node in seq.nodes[hit:]:
            if node.owner is None and NULL_BLOCK in node.blocks:
                node.owner = seq
        # Blocks read within the step that computes them are not registered yet: should their
        # owner go away before they are, this sequence registers them.
        while hit > 0 and seq.nodes[hit - 1].owner is not None:
            hit -= 1
        seq.num_registered = hit

    def register(self, seq: KVSequence, tokens: Sequence[int], num_computed: int) -> None:
        """First come, first kept: a prefix that has a block already keeps that one."""
        if seq.epoch != self._epoch:
            return
        count = num_computed // BLOCK_SIZE
        self._extend(seq, tokens, count)
        for index in range(seq.num_registered, min(count, len(seq.nodes))):
            node = seq.nodes[index]
            if node.owner is seq:
                node.owner = None
            for group, table in enumerate(seq.tables):
                block = table[index]
                if block != NULL_BLOCK and node.blocks[group] == NULL_BLOCK:
                    self._pools[group].mark_cached(block, seq.salt)
                    self._held[group][block] = node
                    node.blocks[group] = block
                    node.refs += 1
                    if group == self._told:
                        self._tell_stored(node, index)
        seq.num_registered = count

    def detach(self, seq: KVSequence) -> None:
        """Unpin the nodes of `seq` and give up its claims."""
        for node in reversed(seq.nodes):
            if node.owner is seq:
                node.owner = None
            if seq.epoch == self._epoch:
                self._drop_ref(node)
        seq.nodes.clear()
        seq.num_registered, seq.blocked, seq.epoch = 0, False, -1

    def evicted(self, group: int, block: int) -> None:
        """Forget the block; its node goes with the last one that needs it."""
        node = self._held[group].pop(block)
        node.blocks[group] = NULL_BLOCK
        if group == self._told:
            if self.changes is not None:
                self.changes.evicted.append(_stored(node, _depth(node), [block]))
            if self.log is not None:
                self.log.removed(node.digest)
        self._drop_ref(node)

    def reset(self) -> None:
        """Start a new generation: nodes of the old one are unreachable from now on."""
        for pool, held in zip(self._pools, self._held, strict=True):
            for block in held:
                pool.unmark_cached(block)
        if self.log is not None:
            self.log.cleared()
        self._epoch += 1
        self._clear()

    def _tell_stored(self, node: PrefixNode, position: int) -> None:
        if self.changes is not None:
            self.changes.stored.append(_stored(node, position, list(node.blocks)))
        if self.log is not None:
            parent = node.parent.digest if node.parent is not None else b""
            self.log.stored(node.digest, parent or None, node.tokens)

    def _still_waits(self, seq: KVSequence) -> bool:
        """Spares a walk: True while the block that `seq` waits for is still to be computed."""
        node = seq.waits_for
        if node is None or node.owner is None or self._nodes.get(node.digest) is not node:
            return False
        return node.owner.scheduled_end < seq.waits_end

    def _key(self, seq: KVSequence, tokens: Sequence[int], index: int) -> tuple[bytes, bytes]:
        """Packed tokens and digest of full block `index`; the blocks before it are known."""
        if index < len(seq.keys):
            return seq.keys[index]
        packed = _pack(*tokens[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE])
        parent = seq.keys[index - 1][1] if index else self._hash(b"", self._root_name(seq.salt))
        key = (packed, self._hash(parent, packed))
        seq.keys.append(key)
        return key

    def _root_name(self, salt: str) -> bytes:
        # A salt comes from users: it may hold half a surrogate pair.
        tenant = salt.encode("utf-8", "surrogatepass")
        return len(self._model).to_bytes(8, "little") + self._model + tenant

    def _walk(self, seq: KVSequence, tokens: Sequence[int], limit: int) -> list[PrefixNode]:
        """Nodes of the leading full blocks that the tree knows, at most `limit`."""
        nodes: list[PrefixNode] = []
        node = self._roots.get(self._root_name(seq.salt))
        if node is None:
            return nodes
        for index in range(limit):
            packed, digest = self._key(seq, tokens, index)
            child = self._nodes.get(digest)
            if child is None or child.parent is not node or child.tokens != packed:
                break
            nodes.append(child)
            node = child
        return nodes

    def _longest_hit(self, nodes: list[PrefixNode]) -> int:
        """Most leading blocks such that each group has all that a query behind them sees."""
        hit, runs = 0, [0] * len(self._windows)
        for index, node in enumerate(nodes):
            usable = True
            for group, window in enumerate(self._windows):
                present = self._block(node, index, group) != NULL_BLOCK
                runs[group] = runs[group] + 1 if present else 0
                count = index + 1
                seen = count - min(count, first_visible_block(window, count * BLOCK_SIZE))
                usable = usable and runs[group] >= seen
            if usable:
                hit = index + 1
        return hit

    def _block(self, node: PrefixNode, index: int, group: int) -> int:
        """The block with the node's keys and values, also if this very step computes them."""
        block, owner = node.blocks[group], node.owner
        if block != NULL_BLOCK or owner is None:
            return block
        covered = owner.scheduled_end >= (index + 1) * BLOCK_SIZE
        return owner.tables[group][index] if covered else NULL_BLOCK

    def _extend(self, seq: KVSequence, tokens: Sequence[int], count: int) -> None:
        """Grow `seq.nodes` to `count` full blocks, making nodes where the tree has none."""
        if seq.blocked or len(seq.nodes) >= count:
            return
        name = self._root_name(seq.salt)
        root = self._roots.get(name) or PrefixNode(None, b"", name, [])
        node = seq.nodes[-1] if seq.nodes else root
        for index in range(len(seq.nodes), count):
            packed, digest = self._key(seq, tokens, index)
            child = self._nodes.get(digest)
            if child is None:
                child = PrefixNode(node, digest, packed, [NULL_BLOCK] * len(self._pools))
                self._nodes[digest] = child
                node.refs += 1
            elif child.parent is not node or child.tokens != packed:
                seq.blocked = True
                break
            child.refs += 1
            seq.nodes.append(child)
            node = child
        if root.refs:
            self._roots[name] = root

    def _drop_ref(self, node: PrefixNode) -> None:
        """One need less; nodes that nobody needs go, and then perhaps their parents."""
        while True:
            node.refs -= 1
            if node.refs > 0:
                return
            if node.parent is None:
                del self._roots[node.tokens]
                return
            del self._nodes[node.digest]
            node = node.parent


def _depth(node: PrefixNode) -> int:
    """Blocks before it."""
    depth, parent = -1, node.parent
    while parent is not None:
        depth, parent = depth + 1, parent.parent
    return depth


def _stored(node: PrefixNode, position: int, blocks: list[int]) -> Stored:
    parent = node.parent.digest if node.parent is not None else b""
    return Stored(node.digest, parent, position, node.tokens, blocks)
