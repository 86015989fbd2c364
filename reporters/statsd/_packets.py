"""Lines into datagrams: greedy, measured in encoded bytes, never above the mtu.

Pure. Lines are joined by a newline, without one at the end. Lines that must travel together (a gauge's reset and its
negative value) are joined by `TIE` until they are packed. A line above the mtu is left out and counted.
"""

from __future__ import annotations

from typing import NamedTuple

TIE = "\x1f"


class Datagram(NamedTuple):
    """One datagram, how many lines it holds, and how many are done with when it is sent, those left out included."""

    payload: bytes
    lines: int
    lines_done: int


def pack(text: str, mtu: int) -> tuple[list[Datagram], int]:
    r"""Cut a text of lines into datagrams of at most `mtu` bytes; answer them, and how many lines did not fit into any.

    >>> datagrams, too_large = pack("a:1|c\nb:1|c\n" + 20 * "x" + ":1|c\nc:1|c", mtu=11)
    >>> [datagram.payload for datagram in datagrams], too_large
    ([b'a:1|c\nb:1|c', b'c:1|c'], 1)
    """
    datagrams: list[Datagram] = []
    payload = text.encode()
    start = done = too_large = 0
    while start < len(payload):
        is_rest = len(payload) - start <= mtu
        end = len(payload) if is_rest else payload.rfind(b"\n", start, start + mtu + 1)
        if end < 0:
            end = payload.find(b"\n", start)
            done += 1
            too_large += 1
            if end < 0:
                break
        else:
            cut = payload[start:end]
            lines = cut.count(b"\n") + 1
            done += lines
            datagrams.append(Datagram(cut.replace(TIE.encode(), b"\n"), lines, done))
        start = end + 1
    return datagrams, too_large
