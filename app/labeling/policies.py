"""Who labels what next: round_robin, random, weighted_expertise, redundancy, composite.

A policy first *narrows* the samples a labeler is eligible for, then *picks* one of them. A composite lets each of its
parts narrow in turn and the last one pick; so "the right difficulty, then the fewest labels, then by chance" is three
known words. A refusal is a value, not an error: `no_samples_available` (nothing left for this labeler) or
`labeler_below_threshold`. Policies hold no locks: their queue calls them under its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

import runtime
from app.labeling.pool import Pool, first, nth
from runtime.errors import expected

Refusal = Literal["no_samples_available", "labeler_below_threshold"]

DIFFICULTIES = {"easy": 0.3, "medium": 0.5, "hard": 0.8}
"""What a sample's difficulty may be called instead of a number from 0 to 1."""


class Selection(msgspec.Struct, frozen=True):
    """What a policy chose, and among how many samples."""

    index: int
    eligible_samples: int


class Policy:
    """The default behaviour: leave all, pick the first."""

    type: ClassVar[str]

    def narrow(self, pool: Pool, labeler_id: str, samples: int) -> int | Refusal:
        """Return the samples worth considering, out of a set that is not empty."""
        return samples

    def pick(self, samples: int) -> int:
        """Choose one index out of a set that is not empty."""
        return first(samples)


class RoundRobin(Policy):
    """Go through the samples in order of creation, whoever asks, and start over at the end."""

    type = "round_robin"

    def __init__(self) -> None:
        self._next = 0

    def pick(self, samples: int) -> int:
        ahead = samples >> self._next
        index = self._next + first(ahead) if ahead else first(samples)
        self._next = index + 1
        return index


class Random(Policy):
    """Pick by chance, each sample equally likely. `seed` makes it repeatable."""

    type = "random"

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def pick(self, samples: int) -> int:
        return nth(samples, self._random.randrange(samples.bit_count()))


class Redundancy(Policy):
    """Even out: prefer the samples with the fewest labels given or being given."""

    type = "redundancy"

    def narrow(self, pool: Pool, labeler_id: str, samples: int) -> int:
        return next(fewest for level in pool.by_seats_taken if (fewest := level & samples))


class WeightedExpertise(Policy):
    """Give each labeler the hardest samples that are not above their expertise, else the easiest there are.

    `expertise` maps labelers to 0…1 (`default_expertise`, 0.5, for others); who is below `min_expertise` (0) gets none.
    """

    type = "weighted_expertise"

    def __init__(
        self, expertise: Mapping[str, float] | None = None, min_expertise: float = 0.0, default_expertise: float = 0.5
    ) -> None:
        self._expertise = dict(expertise or {})
        self._min = min_expertise
        self._default = default_expertise
        for labeler_id, value in self._expertise.items():
            if not 0 <= value <= 1:
                raise expected(f"the expertise of {labeler_id!r} to be a number from 0 to 1", value)

    def narrow(self, pool: Pool, labeler_id: str, samples: int) -> int | Refusal:
        expertise = self._expertise.get(labeler_id, self._default)
        if expertise < self._min:
            return "labeler_below_threshold"
        open_levels = {level: found for level, mask in pool.by_difficulty.items() if (found := mask & samples)}
        within = [level for level in open_levels if level <= expertise]
        return open_levels[max(within) if within else min(open_levels)]


class Composite(Policy):
    """Let each part narrow in turn, and the last one pick."""

    type = "composite"

    def __init__(self, parts: Sequence[Policy]) -> None:
        if not parts:
            raise expected("a composite policy to have at least one part", parts)
        self._parts = tuple(parts)

    def narrow(self, pool: Pool, labeler_id: str, samples: int) -> int | Refusal:
        for part in self._parts:
            narrowed = part.narrow(pool, labeler_id, samples)
            if isinstance(narrowed, str):
                return narrowed
            samples = narrowed
        return samples

    def pick(self, samples: int) -> int:
        return self._parts[-1].pick(samples)


def build(policy_type: str, **options: object) -> Policy:
    """Make a policy by its name; `options` are those of its class. InvalidValue for an unknown name or option.

    >>> build("round_robin").type
    'round_robin'
    >>> build("fair")
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected a policy out of round_robin, random, redundancy, weighted_expertise, \
composite, got: 'fair'
    """
    if policy_type not in _POLICIES:
        raise expected(f"a policy out of {', '.join(_POLICIES)}", policy_type)
    try:
        return _POLICIES[policy_type](**options)
    except TypeError:
        raise expected(f"options that the policy {policy_type} has", options) from None


def select(policy: Policy, pool: Pool, queue_id: str, labeler_id: str) -> Selection | Refusal:
    """Choose the next sample for a labeler, inside the span `anvil.policy.select_assignment`."""
    with runtime.span(
        "anvil.policy.select_assignment", {"policy_type": policy.type, "queue_id": queue_id, "labeler_id": labeler_id}
    ) as span:
        samples = pool.eligible(labeler_id)
        span.metadata["eligible_samples"] = eligible = samples.bit_count()
        narrowed: int | Refusal = policy.narrow(pool, labeler_id, samples) if samples else "no_samples_available"
        if isinstance(narrowed, str):
            span.metadata["refusal"] = narrowed
            return narrowed
        index = policy.pick(narrowed)
        span.metadata["sample_id"] = pool.ids[index]
        span.metadata["selected_sample_difficulty"] = pool.difficulties[index]
        return Selection(index, eligible)


def difficulty_of(value: str | float) -> float:
    """Return a difficulty as a number from 0 to 1.

    >>> difficulty_of("hard"), difficulty_of(0.25)
    (0.8, 0.25)
    """
    number = DIFFICULTIES.get(value) if isinstance(value, str) else value
    if number is None or not 0 <= number <= 1:
        raise expected(f"a difficulty: a number from 0 to 1, or one of {', '.join(DIFFICULTIES)}", value)
    return number


_POLICIES: dict[str, Callable[..., Policy]] = {
    kind.type: kind for kind in (RoundRobin, Random, Redundancy, WeightedExpertise, Composite)
}
