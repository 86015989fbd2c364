"""Packing: greedy, in bytes, nothing cut, nothing lost but what is counted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporters.statsd._packets import TIE, pack

line_texts = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\x1f"), min_size=1, max_size=20))


def payloads(text: str, mtu: int) -> list[bytes]:
    return [datagram.payload for datagram in pack(text, mtu)[0]]


def test_lines_that_fit_exactly_share_a_datagram() -> None:
    assert payloads("aaa\nbbb\nccc", 7) == [b"aaa\nbbb", b"ccc"]
    assert payloads("aaa\nbbb\nccc", 6) == [b"aaa", b"bbb", b"ccc"]
    assert payloads("aaa\nbbb\nccc", 11) == [b"aaa\nbbb\nccc"]


def test_sizes_are_measured_in_encoded_bytes() -> None:
    assert payloads("éé\nü", 6) == ["éé".encode(), "ü".encode()]
    assert payloads("éé\nü", 7) == ["éé\nü".encode()]


def test_nothing_makes_no_datagram() -> None:
    assert pack("", 10) == ([], 0)


@pytest.mark.parametrize("text", ["x" * 9, "a\n" + "x" * 9, "x" * 9 + "\na", "a\n" + "x" * 9 + "\nb"])
def test_a_line_above_the_mtu_is_left_out_and_counted(text: str) -> None:
    datagrams, too_large = pack(text, 8)

    assert too_large == 1
    assert b"x" not in b"".join(datagram.payload for datagram in datagrams)


def test_tied_lines_travel_together() -> None:
    assert payloads(f"aaa\nn:0|g{TIE}n:-5|g\nb", 12) == [b"aaa", b"n:0|g\nn:-5|g", b"b"]
    assert pack(f"n:0|g{TIE}n:-5|g\nb", 8) == ([(b"b", 1, 2)], 1)


@given(line_texts, st.integers(1, 60))
def test_every_line_is_in_a_datagram_or_counted_and_no_two_neighbours_would_fit_into_one(
    lines: list[str], mtu: int
) -> None:
    datagrams, too_large = pack("\n".join(lines), mtu)

    fitting = [line.encode() for line in lines if len(line.encode()) <= mtu]
    assert [line for datagram in datagrams for line in datagram.payload.split(b"\n")] == fitting
    assert too_large == len(lines) - len(fitting)
    assert all(len(datagram.payload) <= mtu for datagram in datagrams)
    if not too_large:
        for one, other in itertools.pairwise(datagrams):
            assert len(one.payload) + 1 + len(other.payload.split(b"\n")[0]) > mtu


@given(line_texts, st.integers(1, 60))
def test_each_datagram_tells_how_many_lines_are_done_with(lines: list[str], mtu: int) -> None:
    datagrams, _ = pack("\n".join(lines), mtu)

    for datagram in datagrams:
        payload_lines = datagram.payload.split(b"\n")
        assert payload_lines[-1] == lines[datagram.lines_done - 1].encode()
        assert datagram.lines == len(payload_lines)
