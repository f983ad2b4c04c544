"""A small deterministic mutator for binary formats: bits, integers, spans, lengths."""

import random

_INTERESTING = [0, 1, 2, 7, 8, 9, 31, 32, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1,
                2**40, 2**61, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1]  # fmt: skip
_HEADER = 4096
"""Most damage goes here: behind it, there is data, and any bytes are data."""


def mutate_bytes(seed: bytes, random_state: random.Random) -> bytes:
    """One mutant of a file whose structure is at its beginning."""
    data = bytearray(seed)
    for _ in range(random_state.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        _damage(data, random_state)
    return bytes(data)


def _place(data: bytearray, random_state: random.Random) -> int:
    focus = _HEADER if random_state.random() < 0.85 else len(data)
    return random_state.randrange(min(focus, len(data)))


def _damage(data: bytearray, random_state: random.Random) -> None:
    at = _place(data, random_state)
    match random_state.randrange(7):
        case 0:
            data[at] ^= 1 << random_state.randrange(8)
        case 1:
            data[at] = random_state.randrange(256)
        case 2:
            size = random_state.choice((1, 2, 4, 8))
            value = random_state.choice(_INTERESTING) % (1 << 8 * size)
            data[at : at + size] = value.to_bytes(size, "little")
        case 3:  # a neighbour of what stands there
            size = random_state.choice((1, 4, 8))
            value = int.from_bytes(data[at : at + size], "little") + random_state.randint(-9, 9)
            data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        case 4:
            del data[at : at + random_state.randint(1, 64)]
        case 5:
            source = _place(data, random_state)
            data[at:at] = data[source : source + random_state.randint(1, 64)]
        case _:
            del data[at if random_state.random() < 0.5 else random_state.randrange(len(data)) :]
