"""One request's share of the KV cache: its block tables and its place in the prefix cache.

A record without behaviour: manager.py and prefix_cache.py change it, the scheduler reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Change = tuple[int, int]
"""(index in the block table, block id; 0 clears it)."""


@dataclass(slots=True, eq=False)
class PrefixNode:
    """A full block of tokens behind a given prefix: `parent` is that prefix, None for a tenant.

    Two nodes are the same prefix only if parent and tokens are: so the tree, not the digest,
    decides what a hit is.
    """

    parent: PrefixNode | None
    digest: bytes
    """Chained hash: where the node is found."""
    tokens: bytes
    """The block's token ids, packed; the tenant's salt at the root."""
    blocks: list[int]
    """Per KV group the block that holds these tokens' keys and values, 0 where none does."""
    refs: int = 0
    """Children, blocks and running sequences that need this node."""
    owner: KVSequence | None = None
    """The running sequence that is going to compute this block."""


@dataclass(slots=True, eq=False)
class KVSequence:
    """Lives as long as its request; holds blocks only while the request runs."""

    salt: str
    """Parts tenants: prefixes are shared among sequences of equal salt."""
    tables: list[list[int]]
    """Per KV group, block ids by position // 32. 0: out of the window, or never needed."""
    changes: list[list[Change]]
    """Per KV group, changes of `tables` that the runner has not yet been told."""
    first_live: list[int]
    """Per KV group, index of the first block that is not yet out of the window."""
    capacity: int = 0
    """Tokens [0, capacity) have their blocks in every group."""
    scheduled_end: int = 0
    """Tokens [0, scheduled_end) are computed when the current step is over."""
    keys: list[tuple[bytes, bytes]] = field(default_factory=list)
    """(packed tokens, chained digest) of the first full blocks: hashed once per request."""
    nodes: list[PrefixNode] = field(default_factory=list)
    """The first full blocks' nodes, while running."""
    num_registered: int = 0
    """Full blocks that have been offered to the prefix cache."""
    blocked: bool = False
    """A node's place is taken by another prefix of equal digest: nothing behind it is cached."""
    waits_for: PrefixNode | None = None
    """The block that another sequence computes and this one waits for."""
    waits_end: int = 0
    """Tokens of that other sequence when the block is there."""
    epoch: int = -1
    """The prefix cache's generation that `nodes` belong to."""
