"""A small deterministic mutator for JSON-like seeds: bytes, numbers, and whole values."""

import copy
import json
import random
from typing import Any

_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**32 - 1, 2**63, -(2**63), 1e308, 0.5, "", " ", "a",
    "\x00", "\u2581", "<unk>", "x" * 5000, [], [[]], [None], [0], ["a", "a"], {}, {"a": 1},
    "ByteLevel", "BPE", "WordPiece", "Unigram", "Sequence", "(", "[a-", "(a*)*b", "\\p{Nope}",
]  # fmt: skip


def mutate(seed: bytes, random_state: random.Random) -> bytes:
    """One mutant: usually still JSON (a value replaced, dropped or doubled), else damaged bytes."""
    if random_state.random() < 0.3:
        return _damage(bytearray(seed), random_state)
    value = json.loads(seed)
    for _ in range(random_state.randint(1, 3)):
        _change(value, random_state)
    return json.dumps(value).encode()


def _damage(data: bytearray, random_state: random.Random) -> bytes:
    for _ in range(random_state.randint(1, 8)):
        where = random_state.randrange(len(data))
        match random_state.randrange(4):
            case 0:
                data[where] = random_state.randrange(256)
            case 1:
                del data[where : where + random_state.randint(1, 64)]
            case 2:
                data[where:where] = data[: random_state.randint(1, 64)]
            case _:
                del data[where:]
        if not data:
            break
    return bytes(data)


def _change(value: Any, random_state: random.Random) -> None:
    """Walk to a random place and change what is there."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = random_state.choice(keys)
        child = value[key]
        if isinstance(child, dict | list) and child and random_state.random() < 0.75:
            value = child
            continue
        match random_state.randrange(4):
            case 0:
                del value[key]
            case 1 if isinstance(value, list):
                value.append(child)
            case _:
                value[key] = copy.deepcopy(random_state.choice(_VALUES))
        return
