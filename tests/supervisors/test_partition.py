"""The partition supervisor: N copies of one child, found by key."""

from __future__ import annotations

import os
from typing import Any

import pytest
import tenacity

from runtime.errors import InvalidValue, NotFound
from supervisors import ChildSpec, PartitionSupervisor, Supervisor
from tests.supervisors.house import House, Run, Worker, child, standing


def test_there_is_one_child_for_each_partition(house: House, run: Run) -> None:
    supervisor = run(PartitionSupervisor, house.spec("a"), partitions=3)

    assert standing(supervisor) == {0: "running", 1: "running", 2: "running"}
    assert supervisor.partitions() == 3


def test_there_are_as_many_partitions_as_cpus_unless_said(house: House, run: Run) -> None:
    assert run(PartitionSupervisor, house.spec("a")).partitions() == os.cpu_count()


@pytest.mark.parametrize("partitions", [0, -1, 1.5, True])
def test_a_bad_number_of_partitions_is_refused(house: House, partitions: Any) -> None:
    with pytest.raises(InvalidValue, match="expected partitions to be an int >= 1"):
        PartitionSupervisor.start(house.spec("a"), partitions=partitions)


def test_a_key_always_belongs_to_the_same_partition(house: House, run: Run) -> None:
    supervisor = run(PartitionSupervisor, house.spec("a"), partitions=4)

    assert supervisor.partition("alice") is supervisor.partition("alice")
    assert [supervisor.partition(number) for number in (0, 5, -1)] == [child(supervisor, key) for key in (0, 1, 3)]


def test_many_keys_reach_every_partition(house: House, run: Run) -> None:
    supervisor = run(PartitionSupervisor, house.spec("a"), partitions=4)

    assert len({supervisor.partition(f"key {number}") for number in range(1_000)}) == 4


def test_after_a_restart_the_key_finds_the_new_child(house: House, run: Run) -> None:
    supervisor = run(PartitionSupervisor, house.spec("a"), partitions=2)
    first = supervisor.partition(0)

    house.end(first, "boom")

    assert supervisor.partition(0) is not first
    assert supervisor.partition(0).is_alive()


def test_a_partition_that_is_down_or_restarting_is_not_found(house: House, run: Run) -> None:
    supervisor = run(PartitionSupervisor, house.spec("a"), partitions=2, backoff=tenacity.wait_fixed(2))
    supervisor.terminate_child(0)
    house.end(supervisor.partition(1), "boom")

    for key in (0, 1):
        with pytest.raises(NotFound, match=f"expected partition {key} to run"):
            supervisor.partition(key)
    house.clock.advance(2)
    assert supervisor.partition(1).is_alive()


def test_with_arguments_gives_each_copy_its_own(house: House, run: Run) -> None:
    run(
        PartitionSupervisor,
        ChildSpec("a", (Worker, (house, "copy"))),
        partitions=2,
        with_arguments=lambda args, index: (args[0], f"{args[1]} {index}"),
    )

    assert house.happened() == ["start copy 0", "start copy 1"]


@pytest.mark.parametrize(("call", "argument"), [("start_child", ChildSpec(9, Worker)), ("delete_child", 0)])
def test_the_number_of_partitions_is_fixed(house: House, run: Run, call: str, argument: Any) -> None:
    supervisor = run(PartitionSupervisor, house.spec("a"), partitions=2)

    with pytest.raises(InvalidValue, match="expected the number of partitions to stay as it is"):
        getattr(supervisor, call)(argument)


def test_the_flags_are_those_of_a_supervisor(house: House, run: Run) -> None:
    supervisor = run(PartitionSupervisor, house.spec("a"), partitions=2, strategy="one_for_all", name="ledgers")

    house.end(supervisor.partition(0), "boom")

    assert house.starts["a"] == 4
    assert supervisor.name == "ledgers"


def test_a_partition_supervisor_may_be_a_child(house: House, run: Run) -> None:
    supervisor = run(Supervisor, children=[PartitionSupervisor.child("ledgers", house.spec("a"), partitions=2)])

    assert child(supervisor, "ledgers").partition("alice").is_alive()
