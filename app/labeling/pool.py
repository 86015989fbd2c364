"""Seats: which samples of a queue still want labels, and who has had which.

A sample has as many seats as it wants labels; an assignment takes one and gives it back only when it ends without a
label. Sets of samples are integers whose bit i stands for the i-th sample in order of creation: a set operation over
7,520 samples costs under a microsecond, so a dispatch never walks through the queue. Owned by its queue, which holds
the lock; policies only read.
"""

from __future__ import annotations

from collections import defaultdict

from runtime.errors import expected


class Pool:
    """The seats of one queue.

    >>> pool = Pool(labels_per_sample=1)
    >>> pool.add("s1"), pool.add("s2")
    (0, 1)
    >>> pool.take(0, "ada")
    >>> pool.eligible("ada"), pool.eligible("bob")
    (2, 2)
    """

    def __init__(self, labels_per_sample: int) -> None:
        self.labels_per_sample = labels_per_sample
        self.ids: list[str] = []
        self.difficulties: list[float] = []
        self.by_difficulty: defaultdict[float, int] = defaultdict(int)
        self.by_seats_taken = [0] * (labels_per_sample + 1)
        self._index: dict[str, int] = {}
        self._seats_taken: list[int] = []
        self._had: defaultdict[str, int] = defaultdict(int)

    def add(self, sample_id: str, difficulty: float = 0.5) -> int:
        """Add a sample with all its seats open; return its index."""
        if sample_id in self._index:
            raise expected("a sample that the queue does not have yet", sample_id)
        index = len(self.ids)
        self.ids.append(sample_id)
        self.difficulties.append(difficulty)
        self.by_difficulty[difficulty] |= 1 << index
        self.by_seats_taken[0] |= 1 << index
        self._index[sample_id] = index
        self._seats_taken.append(0)
        return index

    def index(self, sample_id: str) -> int:
        """Return the index of a sample."""
        return self._index[sample_id]

    def eligible(self, labeler_id: str) -> int:
        """Return the samples with an open seat that this labeler has never had."""
        everything = (1 << len(self.ids)) - 1
        return everything & ~(self.by_seats_taken[self.labels_per_sample] | self._had[labeler_id])

    def take(self, index: int, labeler_id: str) -> None:
        """Give a seat to a labeler, who will never be eligible for that sample again."""
        self._move(index, 1)
        self._had[labeler_id] |= 1 << index

    def release(self, index: int) -> None:
        """Open a seat again, for a labeler who has not had the sample."""
        self._move(index, -1)

    def _move(self, index: int, change: int) -> None:
        bit = 1 << index
        taken = self._seats_taken[index]
        self.by_seats_taken[taken] ^= bit
        self._seats_taken[index] = taken + change
        self.by_seats_taken[taken + change] |= bit


def first(samples: int) -> int:
    """Return the lowest index of a set that is not empty.

    >>> first(0b1100)
    2
    """
    return (samples & -samples).bit_length() - 1


def nth(samples: int, n: int) -> int:
    """Return the n-th lowest index of a set (from 0), by halving.

    >>> [nth(0b101100, n) for n in range(3)]
    [2, 3, 5]
    """
    index, width = 0, samples.bit_length()
    while width > 1:
        half = width // 2
        lower = samples & ((1 << half) - 1)
        count = lower.bit_count()
        if n < count:
            samples, width = lower, half
        else:
            n, samples, index, width = n - count, samples >> half, index + half, width - half
    return index
