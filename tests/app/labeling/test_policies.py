from collections import Counter
from typing import Any

import pytest

from app.labeling.policies import (
    Composite,
    Policy,
    Redundancy,
    Selection,
    WeightedExpertise,
    build,
    difficulty_of,
    select,
)
from app.labeling.pool import Pool
from runtime.errors import InvalidValue


def pool_of(*difficulties: float, labels_per_sample: int = 2) -> Pool:
    pool = Pool(labels_per_sample)
    for number, difficulty in enumerate(difficulties, start=1):
        pool.add(f"s{number}", difficulty)
    return pool


def chosen(policy: Policy, pool: Pool, *labelers: str) -> list[str]:
    """Let labelers ask in turn; answer what each was given, or why not."""
    answers = []
    for labeler in labelers:
        selection = select(policy, pool, "q1", labeler)
        if isinstance(selection, Selection):
            pool.take(selection.index, labeler)
            answers.append(pool.ids[selection.index])
        else:
            answers.append(selection)
    return answers


def test_round_robin_goes_through_the_samples_whoever_asks_and_starts_over() -> None:
    pool = pool_of(0.5, 0.5, 0.5)

    assert chosen(build("round_robin"), pool, "a", "b", "a", "b", "a", "b") == ["s1", "s2", "s3", "s1", "s2", "s3"]


def test_round_robin_passes_over_what_a_labeler_had_and_ends_when_nothing_is_left() -> None:
    pool = pool_of(0.5, 0.5)

    assert chosen(build("round_robin"), pool, "a", "a", "a") == ["s1", "s2", "no_samples_available"]
    assert chosen(build("round_robin"), pool, "b") == ["s1"]


def test_redundancy_prefers_the_samples_with_the_fewest_labels() -> None:
    pool = pool_of(0.5, 0.5, 0.5)
    chosen(build("round_robin"), pool, "a", "a")

    assert chosen(build("redundancy"), pool, "b", "b", "b") == ["s3", "s1", "s2"]


def test_redundancy_gives_every_sample_its_labels_each_from_another_labeler() -> None:
    pool = pool_of(*[0.5] * 5, labels_per_sample=3)

    answers = Counter(chosen(build("redundancy"), pool, *"abcd" * 5))

    assert answers.pop("no_samples_available") == 5
    assert answers == {f"s{number}": 3 for number in range(1, 6)}


def test_random_is_repeatable_by_its_seed_and_reaches_every_sample() -> None:
    draws = [chosen(build("random", seed=7), pool_of(*[0.5] * 6, labels_per_sample=1), *"aaaaaa") for _ in range(2)]
    firsts = {chosen(build("random", seed=seed), pool_of(*[0.5] * 6), "a")[0] for seed in range(60)}

    assert draws[0] == draws[1]
    assert sorted(draws[0]) == ["s1", "s2", "s3", "s4", "s5", "s6"]
    assert len(firsts) == 6


@pytest.mark.parametrize(
    ("expertise", "sample"),
    [(1.0, "s3"), (0.8, "s3"), (0.7, "s2"), (0.5, "s2"), (0.4, "s1"), (0.1, "s1")],
)
def test_weighted_expertise_gives_the_hardest_that_is_not_above_the_labeler_else_the_easiest(
    expertise: float, sample: str
) -> None:
    policy = build("weighted_expertise", expertise={"ada": expertise})

    assert chosen(policy, pool_of(0.3, 0.5, 0.8), "ada") == [sample]


def test_weighted_expertise_refuses_whoever_is_below_the_threshold() -> None:
    policy = build("weighted_expertise", expertise={"ada": 0.2}, min_expertise=0.3)

    assert chosen(policy, pool_of(0.3), "ada", "stranger") == ["labeler_below_threshold", "s1"]


def test_an_empty_queue_is_told_before_a_threshold() -> None:
    policy = build("weighted_expertise", expertise={"ada": 0.2}, min_expertise=0.3)

    assert chosen(policy, pool_of(), "ada") == ["no_samples_available"]


def test_a_composite_lets_each_part_narrow_and_the_last_one_pick() -> None:
    pool = pool_of(0.8, 0.3, 0.3, 0.3)
    chosen(build("round_robin"), pool, "b", "b")  # s1 and s2 have a label
    policy = Composite([WeightedExpertise({"ada": 0.4}), Redundancy(), build("round_robin")])

    assert chosen(policy, pool, "ada", "ada", "ada", "ada") == ["s3", "s4", "s2", "s1"]


def test_a_composite_refuses_as_soon_as_one_part_does() -> None:
    policy = Composite([WeightedExpertise({"ada": 0.1}, min_expertise=0.2), Redundancy()])

    assert chosen(policy, pool_of(0.5), "ada") == ["labeler_below_threshold"]


@pytest.mark.parametrize(
    ("policy", "options", "sentence"),
    [
        ("fair", {}, "a policy out of round_robin, random"),
        ("random", {"sed": 1}, "options that the policy random has, got: {'sed': 1}"),
        ("weighted_expertise", {"expertise": {"ada": 2}}, "the expertise of 'ada' to be a number from 0 to 1, got: 2"),
        ("composite", {"parts": []}, "a composite policy to have at least one part"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=f"expected {sentence}"):
        build(policy, **options)


def test_a_difficulty_has_a_name_or_is_a_number_from_0_to_1() -> None:
    assert [difficulty_of(value) for value in ("easy", "medium", "hard", 0, 1)] == [0.3, 0.5, 0.8, 0, 1]
    for value in ("brutal", -0.1, 1.5):
        with pytest.raises(InvalidValue, match="expected a difficulty"):
            difficulty_of(value)
