#!/usr/bin/env python3
"""Writes digests.tsv, macs.tsv and records.tsv with another implementation than the crate's.

Needs `pip install blake3`. The files are committed; run this only to add rows.
"""

import struct
from pathlib import Path

from blake3 import blake3

HERE = Path(__file__).parent
NEVER = 2**64 - 1


def derive(context, *parts):
    hasher = blake3(derive_key_context=context)
    for part in parts:
        hasher.update(struct.pack("<Q", len(part)) + part)
    return hasher.digest()


def digest(store_key, pepper, signed):
    parts = [store_key] if pepper is None else [store_key, pepper]
    key = derive("gatekey v1 token digest", *parts)
    return blake3(signed, key=key).digest()


def mac(numbers, signed):
    """Of a token in memory, under 16 numbers: for each pair of limbs those of the first sum,
    then those of the second."""
    modulus = 2**61 - 1
    limbs = [word >> 60 * at & 2**60 - 1
             for word in (int.from_bytes(signed[start:start + 15], "little")
                          for start in range(0, 60, 15))
             for at in range(2)]
    sums = [sum(limb * numbers[at // 2 * 4 + which * 2 + at % 2] for at, limb in enumerate(limbs))
            for which in range(2)]
    return b"".join(struct.pack("<Q", total % modulus) for total in sums)


def record(store_key, *, id, revision, keyspace, flags, pepper, suspended, plan, reason,
           permissions, not_before, expires_at, phase_at, digest, owner, networks, lineage=None):
    owner = owner.encode()
    body = bytes([1, 1, flags, 1, pepper, suspended, len(owner), len(networks)])
    body += struct.pack("<QQIHBB", id, revision, keyspace, plan, reason, 0)
    body += permissions.to_bytes(16, "little")
    body += struct.pack("<QQQ", not_before, expires_at, phase_at)
    body += digest + owner + b"".join(networks)
    if lineage is not None:
        body += struct.pack("<Q", lineage)
    tag = blake3(body, key=derive("gatekey v1 record tag", store_key)).digest()[:16]
    return body + tag


def main():
    store_key = bytes(range(32))
    signed = b"7Hk2Pq9ZxW_" + b"aB3" * 14 + b"z" + b"0u9Kx1"
    assert len(signed) == 60
    rows = ["# store key, pepper or -, the last 60 characters of a token, digest"]
    for pepper in [None, b"p" * 16, bytes(range(64))]:
        found = digest(store_key, pepper, signed)
        rows.append("\t".join([store_key.hex(), pepper.hex() if pepper else "-",
                               signed.decode(), found.hex()]))
    (HERE / "digests.tsv").write_text("\n".join(rows) + "\n")

    largest = [2**61 - 2] * 16
    spread = [pow(3, 1000 + at, 2**61 - 1) for at in range(16)]
    rows = ["# the 16 numbers of a key, 8 bytes each, the last 60 characters of a token or other"
            " bytes in their place, its MAC"]
    for numbers, text in [(spread, signed), (largest, signed), (spread, bytes(60)),
                          (largest, b"\xff" * 60), ([1] + [0] * 15, bytes([7]) + bytes(59)),
                          # Sums that are the modulus itself, once and twice.
                          ([2**61 - 2, 1] + [0] * 14, bytes([1] + [0] * 6 + [0x10] + [0] * 52)),
                          ([2**61 - 2, 2] + [0] * 14, bytes([2] + [0] * 6 + [0x10] + [0] * 52))]:
        key = b"".join(struct.pack("<Q", number) for number in numbers)
        rows.append("\t".join([key.hex(), text.hex(), mac(numbers, text).hex()]))
    (HERE / "macs.tsv").write_text("\n".join(rows) + "\n")

    v4 = bytes([4, 8, 10]) + bytes(15)
    v6 = bytes([6, 32, 0x20, 0x01, 0x0D, 0xB8]) + bytes(12)
    plain = dict(id=77, revision=3, keyspace=0, flags=0, pepper=0, suspended=0, plan=0, reason=0,
                 permissions=1, not_before=0, expires_at=NEVER, phase_at=0,
                 digest=bytes([0xAB] * 32), owner="acme", networks=[])
    rows = ["# name, store key, record with its tag"]
    for name, changes in [
        ("plain", {}),
        ("retiring", dict(flags=2, phase_at=9_000, expires_at=10_000, revision=12)),
        ("revoked", dict(flags=4, phase_at=9_000, reason=1, owner="acme/ingest/etl-bot")),
        ("disabled", dict(flags=1, suspended=0b101, permissions=2**127 + 1, pepper=4)),
        ("bound", dict(networks=[v4, v6], not_before=5, keyspace=0x01020304)),
        ("limited", dict(plan=0x0102, flags=8)),
        ("rotated", dict(flags=16, lineage=0x0102030405060708)),
        ("rotated_bound", dict(flags=24, lineage=70, owner="acme/ingest/etl-bot", networks=[v4])),
        ("own_limits", dict(flags=32, plan=2)),
    ]:
        bytes_ = record(store_key, **{**plain, **changes})
        rows.append("\t".join([name, store_key.hex(), bytes_.hex()]))
    (HERE / "records.tsv").write_text("\n".join(rows) + "\n")


main()
