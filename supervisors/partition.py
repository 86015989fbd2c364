"""The partition supervisor: N copies of one child, and a key says which of them serves.

    from supervisors import ChildSpec, PartitionSupervisor

    ledgers = PartitionSupervisor.start(ChildSpec("ledger", Ledger), partitions=4)
    ledgers.partition("alice").tell(entry)      # the same key, the same partition

For work that splits by key and that one actor would be a bottleneck for. Looking up a partition asks nobody: it reads a
table of which the supervisor is the only writer, so it costs no message and works from any thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NoReturn, Unpack, cast

from actors import ActorRef
from runtime.errors import NotFound, expected
from supervisors._core import Child, Retry
from supervisors._flags import FlagOptions
from supervisors.child_spec import ChildSpec, SpecLike, spec_of
from supervisors.refs import SupervisorRef
from supervisors.supervisor import Supervisor

__all__ = ["PartitionSupervisor", "PartitionSupervisorRef"]

_WithArguments = Callable[[tuple[Any, ...], int], Sequence[Any]]


class PartitionSupervisorRef(SupervisorRef):
    """Refer to a `PartitionSupervisor`; its children's ids are 0 … N-1, and their number is fixed."""

    __slots__ = ()

    def partition(self, key: Hashable) -> ActorRef[Any]:
        """Return the child that serves a key; any thread, never waits.

        An int belongs to partition `key % partitions`, anything else goes by its hash, which for strings is stable
        within one process. Raises `NotFound` while that partition is down or restarting.
        """
        table = self._table()
        index = (key if isinstance(key, int) else hash(key)) % len(table)
        ref = table[index]
        if ref is None:
            raise NotFound(f"expected partition {index} to run, got: it is down or restarting")
        return ref

    def partitions(self) -> int:
        """Return the number of partitions."""
        return len(self._table())

    def _table(self) -> list[ActorRef[Any] | None]:
        return cast(PartitionSupervisor, self._actor).table


class PartitionSupervisor(Supervisor):
    """Supervise `partitions` copies of one child.

    child: the spec of each copy; the copies' ids are 0 … N-1.
    partitions: how many, a positive number; default the number of CPUs.
    with_arguments: `fn(args, index)` returns the start arguments of copy `index`; default the spec's own, for all.
    The flags are those of `Supervisor`.
    """

    ref_class = PartitionSupervisorRef

    def __init__(
        self,
        child: SpecLike,
        *,
        partitions: int | None = None,
        with_arguments: _WithArguments | None = None,
        **options: Unpack[FlagOptions],
    ) -> None:
        super().__init__(**options)
        count = (os.cpu_count() or 1) if partitions is None else partitions
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise expected("partitions to be an int >= 1", partitions)
        self._spec = spec_of(child)
        self._with_arguments = with_arguments
        # Entries are replaced in place, each in one step, so that readers need no lock.
        self.table: list[ActorRef[Any] | None] = [None] * count

    @classmethod
    def start(cls, *args: Any, name: str | None = None, **options: Any) -> PartitionSupervisorRef:
        """Start the supervisor and return its ref once all partitions are started."""
        return cast(PartitionSupervisorRef, super().start(*args, name=name, **options))

    @classmethod
    def start_link(cls, *args: Any, name: str | None = None, **options: Any) -> PartitionSupervisorRef:
        """Start the supervisor linked to the calling actor; see `start`."""
        return cast(PartitionSupervisorRef, super().start_link(*args, name=name, **options))

    def children(self) -> list[ChildSpec]:
        startable, args, kwargs = self._spec.target()
        give = self._with_arguments or (lambda args, index: args)
        return [
            self._spec.replace(id=index, start=(startable, tuple(give(args, index)), kwargs))
            for index in range(len(self.table))
        ]

    def _call_start_child(self, spec: ChildSpec) -> NoReturn:
        raise expected("the number of partitions to stay as it is", spec.id)

    def _call_delete_child(self, child_id: Hashable) -> NoReturn:
        raise expected("the number of partitions to stay as it is", child_id)

    def _place(self, child: Child, ref: ActorRef[Any] | None, retry: Retry | None = None) -> None:
        super()._place(child, ref, retry)
        self.table[cast(int, child.spec.id)] = child.ref if child.running else None
