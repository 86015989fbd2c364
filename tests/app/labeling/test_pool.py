import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.labeling.pool import Pool, first, nth
from runtime.errors import InvalidValue


@given(st.sets(st.integers(0, 300), min_size=1))
def test_first_and_nth_count_the_members_of_a_set_in_order(members: set[int]) -> None:
    samples = sum(1 << member for member in members)

    assert first(samples) == min(members)
    assert [nth(samples, n) for n in range(len(members))] == sorted(members)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abcd"), st.booleans())), st.integers(1, 3))
def test_a_pool_agrees_with_a_plain_count_of_seats(steps: list[tuple[int, str, bool]], labels_per_sample: int) -> None:
    pool = Pool(labels_per_sample)
    for number in range(6):
        pool.add(f"s{number}")
    taken = [0] * 6
    had: set[tuple[int, str]] = set()

    for index, labeler, gives_it_back in steps:
        if taken[index] == labels_per_sample or (index, labeler) in had:
            continue
        pool.take(index, labeler)
        had.add((index, labeler))
        taken[index] += 1
        if gives_it_back:
            pool.release(index)
            taken[index] -= 1

    for labeler in "abcd":
        eligible = {index for index in range(6) if taken[index] < labels_per_sample and (index, labeler) not in had}
        assert pool.eligible(labeler) == sum(1 << index for index in eligible)
    for level, samples in enumerate(pool.by_seats_taken):
        assert samples == sum(1 << index for index in range(6) if taken[index] == level)


def test_a_sample_is_added_once() -> None:
    pool = Pool(1)
    pool.add("s1")

    with pytest.raises(InvalidValue, match="does not have yet, got: 's1'"):
        pool.add("s1")
