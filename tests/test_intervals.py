"""Intervals and exact tests, against statsmodels and SciPy."""

import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from tutorial.intervals import fisher, mcnemar, wilson


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("number", [1, 3, 10, 55, 110, 1000])
def test_intervals_of_shares(number, confidence):
    for successes in {0, 1, number // 3, number // 2, number - 1, number}:
        expected = proportion_confint(successes, number, 1 - confidence, method="wilson")
        assert wilson(successes, number, confidence) == pytest.approx(expected, abs=1e-12)


def test_an_interval_known_from_the_literature():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize("successes, number", [(0, 0), (3, 2), (-1, 5)])
def test_counts_that_are_none(successes, number):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, number)


@pytest.mark.parametrize("both, lost, won, neither", [
    (50, 0, 5, 0), (50, 5, 0, 3), (20, 3, 9, 23), (1, 10, 12, 0), (0, 0, 0, 4), (0, 1, 0, 0), (5, 4, 4, 5),
    (0, 60, 30, 20)])
def test_paired_outcomes(both, lost, won, neither):
    before = [1] * (both + lost) + [0] * (won + neither)
    after = [1] * both + [0] * lost + [1] * won + [0] * neither
    expected = statsmodels_mcnemar([[both, lost], [won, neither]], exact=True).pvalue
    assert mcnemar(before, after) == pytest.approx(expected)


def test_outcomes_that_are_not_paired():
    with pytest.raises(ValueError):
        mcnemar([1, 0], [1])


@pytest.mark.parametrize("table", [
    ((3, 1), (1, 3)), ((10, 0), (0, 5)), ((50, 2), (3, 0)), ((0, 0), (4, 5)), ((7, 0), (3, 0)), ((120, 30), (8, 9)),
    ((1200, 80), (60, 40))])
def test_two_by_two_tables(table):
    assert fisher(table) == pytest.approx(fisher_exact(table).pvalue, rel=1e-6)
