"""The KL divergence from a stored fp32 distribution to another one: NumPy only, tests use it too.

A distribution over a large vocabulary is stored as its 64 likeliest ids (the head) and 32 ids drawn
from the rest (the tail), each drawn with probability p/P where P is the tail's whole mass. With
r = q/p, ``KL(p || q) = sum of p (r - 1 - log r)`` over the vocabulary, since both sum to one; no
term is negative. The head's terms are added up as they are, the tail's are estimated by
``P * mean(r - 1 - log r)`` over the draws. The estimate is unbiased; ``logprobs.json`` holds it
next to the exact value for one pair of distributions, so that its error is known.
"""

import numpy as np

STEP = 2048.0  # log-probabilities are stored as round(-logprob * STEP) in uint16


def pack(logprobs: np.ndarray) -> np.ndarray:
    """Log-probabilities (natural logarithm) as fixed-point uint16."""
    return np.clip(np.rint(-logprobs * STEP), 0, 65535).astype(np.uint16)


def unpack(stored: np.ndarray) -> np.ndarray:
    """Log-probabilities, float64, with an error of at most 1/4096."""
    return stored.astype(np.float64) / -STEP


def _terms(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """``r - 1 - log r`` with ``r = q / p``."""
    return np.expm1(log_q - log_p) - (log_q - log_p)


def estimated_kl(fixture: dict[str, np.ndarray], row: int, logprobs: np.ndarray) -> float:
    """``KL(stored || logprobs)`` in nats, at one stored position.

    ``fixture`` is a ``logprobs_MODEL.npz``; ``logprobs`` ``[V]`` are the other log-probabilities.
    """
    log_q = logprobs.astype(np.float64)
    head, tail = unpack(fixture["head_lp"][row]), unpack(fixture["tail_lp"][row])
    exact = np.exp(head) * _terms(head, log_q[fixture["head_ids"][row]])
    drawn = _terms(tail, log_q[fixture["tail_ids"][row]])
    return float(exact.sum() + fixture["tail_mass"][row] * drawn.mean())


def exact_kl(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """``KL(p || q)`` in nats over the last axis, from full log-probabilities."""
    log_p, log_q = log_p.astype(np.float64), log_q.astype(np.float64)
    return (np.exp(log_p) * _terms(log_p, log_q)).sum(-1)
