"""The six families of strategies, as data: one file each, cards only. Not here: their code."""

from sixfold.strategies import (
    attention,
    batching,
    kv_cache,
    offline,
    parallelism,
    prefill_decode,
)
from sixfold.strategies.card import (
    COMPLAINTS,
    CONSTRAINTS,
    ENGINES,
    STAGES,
    Card,
    Complaint,
    Constraint,
    Knob,
    Stage,
)

CARDS: tuple[Card, ...] = (
    *batching.CARDS,
    *prefill_decode.CARDS,
    *kv_cache.CARDS,
    *attention.CARDS,
    *parallelism.CARDS,
    *offline.CARDS,
)
"""Every strategy, in the families' order."""

__all__ = [
    "CARDS",
    "COMPLAINTS",
    "CONSTRAINTS",
    "ENGINES",
    "STAGES",
    "Card",
    "Complaint",
    "Constraint",
    "Knob",
    "Stage",
]
