import krippendorff
import numpy
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.labeling import agreement, lexicon
from app.labeling.schema import Scale
from runtime.errors import InvalidValue

RATINGS = st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=5), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("units", "kappa"), [(["aa", "bb"], 1.0), (["ab", "ba"], -1.0), (["aa", "aa", "ab", "ba"], -1 / 3)]
)
def test_cohen_matches_the_worked_examples(units: list[str], kappa: float) -> None:
    assert agreement.cohen(units) == pytest.approx(kappa)


def test_fleiss_matches_the_worked_example() -> None:
    assert agreement.fleiss(["aab", "bbb", "aba"]) == pytest.approx(0.1)


def test_fleiss_matches_the_table_of_its_paper() -> None:
    # Fourteen raters, ten subjects, five categories; kappa is 0.210 (Fleiss 1971, as in Fleiss, Statistical Methods).
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    units = [[category for category, count in enumerate(row) for _ in range(count)] for row in table]

    assert agreement.fleiss(units) == pytest.approx(0.210, abs=0.0005)


@pytest.mark.parametrize(("units", "alpha"), [(["aab", "bbb", "aba"], 0.2), (["ab", "ba"], -0.5)])
def test_krippendorff_matches_the_worked_nominal_examples(units: list[str], alpha: float) -> None:
    assert agreement.krippendorff_alpha(units) == pytest.approx(alpha)


@pytest.mark.parametrize(("scale", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_matches_the_published_example_with_gaps(scale: Scale, alpha: float) -> None:
    # Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section D.
    raters = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]

    assert agreement.krippendorff_alpha(list(zip(*raters, strict=True)), scale) == pytest.approx(alpha, abs=0.0005)


def test_raters_who_never_differ_agree_perfectly() -> None:
    assert agreement.cohen(["aa", "aa"]) == 1.0
    assert agreement.fleiss(["aaa"]) == 1.0
    assert agreement.krippendorff_alpha(["aa", "aa"]) == 1.0
    assert agreement.unit_alpha("aa", {"a": 4}, "nominal") == 1.0


@given(RATINGS, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_is_the_mean_of_the_units_weighted_by_their_ratings(units: list[list[int]], scale: Scale) -> None:
    totals = agreement._counts(rating for unit in units for rating in unit)
    assume(len(totals) > 1)

    weighted = sum(len(unit) * agreement.unit_alpha(unit, totals, scale) for unit in units) / totals.total()

    assert weighted == pytest.approx(agreement.krippendorff_alpha(units, scale), abs=1e-9)


def test_the_lexicon_has_the_alpha_that_the_library_finds_in_its_plain_matrix() -> None:
    ratings = [token.ratings for token in lexicon.load()]

    alpha = agreement.krippendorff_alpha(ratings, "interval")

    assert alpha == pytest.approx(krippendorff.alpha(numpy.array(ratings).T, level_of_measurement="interval"))
    assert 0.7 < alpha < 0.8


@pytest.mark.parametrize(
    ("units", "scale", "metric"),
    [
        (["aa", "ab"], "nominal", "cohen_kappa"),
        (["aab", "abb"], "nominal", "fleiss_kappa"),
        (["aab", "ab"], "nominal", "krippendorff_alpha"),
        ([["a", None, "a"], ["a", "b", "b"]], "nominal", "krippendorff_alpha"),
        ([[1, 2], [2, 2]], "interval", "krippendorff_alpha"),
    ],
)
def test_the_metric_is_chosen_by_raters_gaps_and_scale(units: agreement.Units, scale: Scale, metric: str) -> None:
    assert agreement.compute(units, scale)[0] == metric


def test_data_that_a_metric_cannot_take_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"units of exactly two ratings .* got: \[3\]"):
        agreement.cohen(["aab"])
    with pytest.raises(InvalidValue, match="at least one unit that both raters rated"):
        agreement.cohen([["a", None]])
    with pytest.raises(InvalidValue, match="units of the same number of ratings"):
        agreement.fleiss(["aab", "ab"])
    with pytest.raises(InvalidValue, match="at least one unit with two ratings"):
        agreement.krippendorff_alpha(["a", "b"])
    with pytest.raises(InvalidValue, match="a unit with at least two ratings"):
        agreement.unit_alpha("a", {"a": 1}, "nominal")
