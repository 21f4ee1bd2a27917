"""Named randomness: an integer hash that is the same in every process, so noise hangs on what it is for."""

from hashlib import sha256


def stream(*parts):
    """The 64-bit name of one stream of noise. No row's noise depends on its neighbours, and adding a news
    item changes no other's seed."""
    return int.from_bytes(sha256("\x00".join(map(str, parts)).encode()).digest()[:8], "big")
