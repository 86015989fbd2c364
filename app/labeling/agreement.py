"""How far raters agree beyond chance: Cohen's kappa, Fleiss' kappa, Krippendorff's alpha. Pure arithmetic.

The data are *units* (samples), each a sequence of ratings; the n-th rating of a unit is that of the n-th rater, None
where there is none. 1 is perfect agreement, 0 what chance gives, below 0 worse than chance. Where nobody ever
differs, chance would agree as well and the quotient is 0/0: that counts as perfect agreement, 1.0.

Sources: Cohen, Educational and Psychological Measurement 20 (1960); Fleiss, Psychological Bulletin 76 (1971);
Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import krippendorff
import numpy

from app.labeling.schema import Scale
from runtime.errors import expected

Metric = Literal["cohen_kappa", "fleiss_kappa", "krippendorff_alpha"]
Rating: TypeAlias = Any
"""A hashable value; a number where the scale is interval, orderable where it is ordinal."""
Units: TypeAlias = Sequence[Sequence[Rating]]


def compute(units: Units, scale: Scale = "nominal") -> tuple[Metric, float]:
    """Choose the metric that fits the data, and compute it.

    Nominal ratings without gaps: Cohen's kappa for two raters, Fleiss' for more; everything else: Krippendorff's alpha.

    >>> compute(["aa", "aa", "ab", "ba"])
    ('cohen_kappa', -0.3333333333333333)
    >>> compute(["aab", "bbb", "aba"])[0]
    'fleiss_kappa'
    """
    sizes = {len(unit) for unit in units}
    has_gaps = any(rating is None for unit in units for rating in unit)
    if scale == "nominal" and len(sizes) == 1 and min(sizes) >= 2 and not has_gaps:
        return ("cohen_kappa", cohen(units)) if sizes == {2} else ("fleiss_kappa", fleiss(units))
    return "krippendorff_alpha", krippendorff_alpha(units, scale)


def cohen(units: Units) -> float:
    """Cohen's kappa of two raters; units that one of them left out do not count.

    >>> cohen(["aa", "bb"]), cohen(["ab", "ba"])
    (1.0, -1.0)
    """
    if any(len(unit) != 2 for unit in units):
        raise expected("units of exactly two ratings for Cohen's kappa", sorted({len(unit) for unit in units}))
    pairs = [(first, second) for first, second in units if first is not None and second is not None]
    if not pairs:
        raise expected("at least one unit that both raters rated", units)
    observed = sum(first == second for first, second in pairs) / len(pairs)
    firsts, seconds = (Counter(ratings) for ratings in zip(*pairs, strict=True))
    by_chance = sum(count * seconds[value] for value, count in firsts.items()) / len(pairs) ** 2
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def fleiss(units: Units) -> float:
    """Fleiss' kappa of units that have the same number of ratings each, two or more, from whichever raters.

    >>> round(fleiss(["aab", "bbb", "aba"]), 10)
    0.1
    """
    counts = [_counts(unit) for unit in units]
    sizes = {count.total() for count in counts}
    if len(sizes) != 1 or min(sizes) < 2:
        raise expected("units of the same number of ratings, at least two, for Fleiss' kappa", sorted(sizes))
    (raters,) = sizes
    observed = sum(1 - _nominal_disagreement(count) for count in counts) / len(counts)
    totals = sum(counts, Counter())
    by_chance = sum((count / (raters * len(counts))) ** 2 for count in totals.values())
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def krippendorff_alpha(units: Units, scale: Scale = "nominal") -> float:
    """Krippendorff's alpha; units may have gaps and differ in length, those with fewer than two ratings do not count.

    >>> round(krippendorff_alpha(["aab", "bbb", "aba"]), 10), krippendorff_alpha(["ab", "ba"])
    (0.2, -0.5)
    """
    counts = [count for unit in units if (count := _counts(unit)).total() >= 2]
    if not counts:
        raise expected("at least one unit with two ratings", units)
    totals = sum(counts, Counter())
    if len(totals) == 1:
        return 1.0
    domain = list(totals) if scale == "nominal" else sorted(totals)
    table = numpy.array([[count[value] for value in domain] for count in counts])
    return float(
        krippendorff.alpha(
            value_counts=table,
            value_domain=domain if scale == "interval" else list(range(len(domain))),
            level_of_measurement=scale,
        )
    )


def unit_alpha(unit: Iterable[Rating], totals: Mapping[Rating, int], scale: Scale) -> float:
    """Agreement within one unit, against what chance gives over all ratings.

    `totals` counts how often each value was given, this unit's included. Krippendorff's alpha is the mean of this
    over the units, weighted by their numbers of ratings; kappa and alpha of a single unit would be of no use, because
    its own ratings say nothing about chance.

    >>> totals = Counter("aabbbbaba")
    >>> round(sum(unit_alpha(unit, totals, "nominal") for unit in ("aab", "bbb", "aba")) / 3, 10)
    0.2
    """
    counts = _counts(unit)
    if counts.total() < 2:
        raise expected("a unit with at least two ratings", dict(counts))
    position = _mid_ranks(totals) if scale == "ordinal" else {value: value for value in totals}
    disagreement = _nominal_disagreement if scale == "nominal" else _variance
    by_chance, within = (
        disagreement({position[value]: count for value, count in given.items()}) for given in (totals, counts)
    )
    return 1.0 if by_chance == 0 else 1 - within / by_chance


def _counts(unit: Iterable[Rating]) -> Counter[Rating]:
    return Counter(rating for rating in unit if rating is not None)


def _nominal_disagreement(counts: Mapping[Any, int]) -> float:
    """The share of pairs of ratings that differ."""
    total = sum(counts.values())
    return 1 - sum(count * (count - 1) for count in counts.values()) / (total * (total - 1))


def _variance(counts: Mapping[Any, int]) -> float:
    """The sample variance: half the mean squared difference of the pairs, which is what alpha compares."""
    total = sum(counts.values())
    mean = sum(value * count for value, count in counts.items()) / total
    return float(sum(count * (value - mean) ** 2 for value, count in counts.items()) / (total - 1))


def _mid_ranks(totals: Mapping[Rating, int]) -> dict[Rating, float]:
    """Each value's mean rank. The ordinal distance of Krippendorff is the difference of these."""
    values = sorted(totals)
    upto = accumulate(totals[value] for value in values)
    return {value: last - totals[value] / 2 for value, last in zip(values, upto, strict=True)}
