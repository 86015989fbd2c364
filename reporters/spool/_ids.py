"""Time-ordered record ids: UUIDs of version 7 (RFC 9562), strictly increasing within a process.

Any thread may draw one. 48 bits of milliseconds, then 74 bits that start at random in each millisecond and grow by a
random step within it, so that ids sort in the order they were drawn and nobody can tell one from another.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

from runtime import _native
from runtime._fork import in_child
from runtime.clock import Clock

_RANDOM_BITS = 74
_STEP_BITS = 32

_lock = _native.allocate_lock()


@in_child
def _new_lock() -> None:
    """Have a free lock in a forked child: the parent's may have been held by a thread that the child does not have."""
    global _lock
    _lock = _native.allocate_lock()


class IdSource:
    """Draw ids.

    >>> ids = IdSource()
    >>> first, second = ids.next(), ids.next()
    >>> first < second, uuid.UUID(first).version
    (True, 7)
    """

    def __init__(self, system_ns: Callable[[], int] = Clock.system_ns) -> None:
        self._system_ns = system_ns
        self._last = 0

    def next(self) -> str:
        """Return a new id, greater than all before it, also when the clock was set back."""
        entropy = int.from_bytes(os.urandom(10), "big")
        # The top random bit starts at 0, which leaves room to count upwards within the millisecond.
        fresh = (self._system_ns() // 1_000_000) << _RANDOM_BITS | entropy >> (80 - _RANDOM_BITS + 1)
        with _lock:
            value = max(fresh, self._last + 1 + (entropy & ((1 << _STEP_BITS) - 1)))
            self._last = value
        milliseconds, rand = value >> _RANDOM_BITS, value & ((1 << _RANDOM_BITS) - 1)
        rand_a, rand_b = rand >> 62, rand & ((1 << 62) - 1)
        return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b))
