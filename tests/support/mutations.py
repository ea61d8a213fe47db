"""Holds what tests of mutations share."""

from __future__ import annotations

import random


def damage(chance: random.Random, data: bytes, start: int = 0, stop: int | None = None) -> bytes:
    """One to four random changes between two positions: bytes, bits, pieces cut, doubled, moved, put in."""
    data = bytearray(data)
    stop = len(data) if stop is None else stop
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        at = chance.randrange(start, max(start + 1, min(stop, len(data))))
        length = chance.choice([1, 2, 4, 8, 64])
        kind = chance.randrange(8)
        if kind == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length]
        elif kind == 5:
            data[at:at] = chance.randbytes(length)
        elif kind == 6:
            data[at : at + length] = chance.choice([b"\0", b"\xff", b"9"]) * length
        else:
            other = chance.randrange(len(data) or 1)
            data[at : at + length] = data[other : other + length]
    return bytes(data)
