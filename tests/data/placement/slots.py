#!/usr/bin/env python3
"""The reference implementation of `slots` after src/placement/slots.md, slow and obvious.

It wrote slots.json next to it, which must never change: `slots.py > slots.json`.
Needs the `xxhash` package.
"""

import json

from xxhash import xxh3_64_intdigest as xxh3

M64 = 2**64 - 1
G = 0x9E3779B97F4A7C15


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M64
    return z ^ (z >> 31)


def hi(a, b):
    return (a * b) >> 64


def keys_of(rank, name, weight, b, start):
    """The (key, place, slot) of all slots for one member."""
    s, h = 2**b, (b + 1) // 2
    identity = xxh3(name.encode())
    rounds = []
    for i in (1, 2, 3):
        k = mix((identity + i * G) & M64)
        rounds.append(((k >> 32) & (s - 1), (k & (s - 1) & ~7) | 5))
    for j in range(s):
        x = j
        for add, mul in rounds:
            x = ((x + add) * mul) & (s - 1)
            x ^= x >> h
        u = mix((mix(identity) + j * G) & M64)
        score = hi(start[j] + hi(start[j + 1] - start[j], u), M64 // weight)
        yield (score & ~0xFFFF) | rank, j, x


def place(b, members):
    """The candidates of every slot, by name."""
    s = 2**b
    members = sorted((m for m in members if m[1] > 0), key=lambda m: m[0].encode())
    total = sum(weight for _, weight in members)
    start = [0]
    for i in range(s):
        start.append(start[-1] + 2**60 // (s - i))
    pairs = []
    for rank, (name, weight) in enumerate(members):
        pairs += [(key, j, x, rank) for key, j, x in keys_of(rank, name, weight, b, start)]
    pairs.sort()
    room = [max(-(-s * w // total), 105 * s * w // (100 * total)) for _, w in members]
    owner = [None] * s
    orders = [[] for _ in range(s)]
    for _, _, x, rank in pairs:
        orders[x].append(rank)
        if owner[x] is None and room[rank] > 0:
            owner[x] = rank
            room[rank] -= 1
    candidates = [[owner[x]] + [r for r in orders[x] if r != owner[x]] for x in range(s)]
    return [[members[r][0] for r in order] for order in candidates]


TOPOLOGIES = [
    (16, [("users-0", 1), ("users-1", 1), ("users-2", 1)]),
    (8, [("only", 7)]),
    (9, [("a", 1), ("b", 2), ("c", 4), ("idle", 0)]),
    (10, [("zürich", 3), ("東京", 1), ("", 2), ("São Paulo", 65535), ("🦀", 1)]),
    (12, [(f"node-{i:02}", 1) for i in range(40)]),
    (13, [(f"n{i}", i % 5) for i in range(64)]),
    (8, [(f"full-{i}", 1 + i % 2) for i in range(256)]),
]

KEYS = [b"", b"\0", b"\xff\xfe\xfd", "ключ".encode(), b"user:42", bytes(range(256)), b"k" * 1000]
KEYS += [i.to_bytes(4, "big") for i in range(0, 50_000_000, 1_562_501)]


def vector(key, b, orders):
    token = xxh3(key)
    slot = token >> (64 - b)
    return {"key": key.hex(), "token": f"{token:016x}", "slot": slot, "candidates": orders[slot][:3]}


def main():
    topologies = []
    for b, members in TOPOLOGIES:
        orders = place(b, members)
        vectors = [vector(key, b, orders) for key in KEYS]
        topologies.append({"bits": b, "members": members, "vectors": vectors})
    print("[")
    for at, topology in enumerate(topologies):
        print(" {", f'"bits": {topology["bits"]}, "members": {json.dumps(topology["members"])},')
        print('  "vectors": [')
        print(",\n".join("   " + json.dumps(v) for v in topology["vectors"]))
        print("  ]}" + ("," if at + 1 < len(topologies) else ""))
    print("]")


if __name__ == "__main__":
    main()
