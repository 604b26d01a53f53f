"""Many numbers from one seed: each named stream has a seed of its own.

Neither the order in which streams are used, nor how much is drawn from one, changes another.
"""

from __future__ import annotations

from hashlib import blake2b


def stream_seed(seed: int, name: str) -> int:
    """Return the seed of the stream `name` of a run's seed, a number below 2^63."""
    digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
